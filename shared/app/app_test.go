package app_test

import (
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/kernelflow/kernelflow/shared/app"
	"github.com/kernelflow/kernelflow/shared/auth"
	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/runtime"
	"github.com/kernelflow/kernelflow/shared/user"
)

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func config(t *testing.T, data string) app.Config {
	t.Helper()
	c, err := app.FromEnvironment()
	check(t, err)
	c.Data, c.URL = data, "http://127.0.0.1:8001/"
	return c
}

func open(t *testing.T, c app.Config) (*app.App, error) {
	t.Helper()
	return app.Open(t.Context(), c, slog.New(slog.DiscardHandler), time.Now, rand.Reader)
}

func TestARestartAcceptsTheTokensOfTheLastOne(t *testing.T) {
	data := t.TempDir()
	first, err := open(t, config(t, data))
	check(t, err)
	token, err := first.AdminToken(t.Context())
	check(t, err)
	check(t, first.Close())
	info, err := os.Stat(filepath.Join(data, "secret.key"))
	check(t, err)
	if info.Mode().Perm() != 0o600 {
		t.Errorf("the key's mode is %s", info.Mode())
	}
	second, err := open(t, config(t, data))
	check(t, err)
	defer func() { check(t, second.Close()) }()
	bearer, err := second.Auth.Verify(token)
	check(t, err)
	admin, err := second.Store.UserByName(t.Context(), "admin")
	check(t, err)
	if bearer != (auth.Bearer{User: admin.ID}) || !admin.Superuser {
		t.Errorf("%+v, %+v", bearer, admin)
	}
}

func TestTheFirstAdminComesFromTheEnvironment(t *testing.T) {
	t.Setenv("KCI_INITIAL_PASSWORD", "correct horse")
	t.Setenv("KCI_INITIAL_ADMIN_USERNAME", "root")
	t.Setenv("KCI_INITIAL_ADMIN_EMAIL", "root@example.org")
	c := config(t, t.TempDir())
	for _, password := range []string{"correct horse", "another"} { // which a second start does not set
		c.AdminPassword = password
		a, err := open(t, c)
		check(t, err)
		admin, err := a.Store.UserByName(t.Context(), "root")
		check(t, err)
		if ok, _ := a.Auth.CheckPassword(admin.PasswordHash, "correct horse"); !ok || !admin.Superuser || !admin.Active || !admin.Verified || admin.Email != "root@example.org" {
			t.Errorf("%t, %+v", ok, admin)
		}
		check(t, a.Close())
	}
}

func TestADeletedAdminIsMadeAnewAndADeactivatedOneStaysOut(t *testing.T) {
	c := config(t, t.TempDir())
	started := func(do func(a *app.App, admin user.User)) {
		t.Helper()
		a, err := open(t, c)
		check(t, err)
		admin, err := a.Store.UserByName(t.Context(), "admin")
		check(t, err)
		do(a, admin)
		check(t, a.Close())
	}
	var token string
	started(func(a *app.App, admin user.User) {
		var err error
		token, err = a.AdminToken(t.Context())
		check(t, err)
		check(t, a.Store.DeleteUser(t.Context(), admin.ID))
	})
	started(func(a *app.App, admin user.User) {
		if _, err := a.Auth.Authenticate(t.Context(), a.Store, token); !admin.Superuser || !errors.Is(err, errs.Unauthenticated) {
			t.Errorf("a token of the deleted account: %v", err)
		}
		_, err := a.Store.UpdateUser(t.Context(), admin.ID, func(u *user.User) error { u.Active = false; return nil })
		check(t, err)
	})
	started(func(_ *app.App, admin user.User) {
		if admin.Active {
			t.Error("the account is active again")
		}
	})
}

func TestAWrongSettingIsNamed(t *testing.T) {
	for name, change := range map[string]func(*app.Config){
		"KERNELFLOW_URL":      func(c *app.Config) { c.URL = "localhost" },
		"KERNELFLOW_DATA":     func(c *app.Config) { c.Data = "" },
		"HOLDOFF":             func(c *app.Config) { c.Holdoff = -1 },
		"POLL_AFTER":          func(c *app.Config) { c.PollAfter = -1 },
		"EVENTS_RETENTION":    func(c *app.Config) { c.Retention = 0 },
		"TELEMETRY_RETENTION": func(c *app.Config) { c.TelemetryLife = 0 },
		"NODES_RETENTION":     func(c *app.Config) { c.NodesLife = -1 },
		"LISTEN_KEEPALIVE":    func(c *app.Config) { c.KeepAlive = 0 },
		"TARBALL_ATTEMPTS":    func(c *app.Config) { c.TarballAttempts = 0 },
		"SHELL_JOBS":          func(c *app.Config) { c.ShellJobs = 0 },
		"CHECKOUT_TIMEOUT":    func(c *app.Config) { c.CheckoutTimeout = 0 },
		"LOG_LEVEL":           func(c *app.Config) { c.LogLevel = "loud" },
		"SECRET_KEY":          func(c *app.Config) { c.SecretKey = "short" },
		"not supported":       func(c *app.Config) { c.Storage = "gopher://x" },
		"KCI_SETTINGS":        func(c *app.Config) { c.Settings = "no-such-file" },
		"no-such-folder":      func(c *app.Config) { c.ConfigDir = "no-such-folder" },
		"no-such-templates":   func(c *app.Config) { c.Templates = "no-such-templates" },
	} {
		c := config(t, t.TempDir())
		change(&c)
		if _, err := open(t, c); !errors.Is(err, errs.Invalid) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestTheTokensOfRuntimesComeFromASettingsFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "kernelci.toml")
	check(t, os.WriteFile(file, []byte("[DEFAULT]\nverbose = true\n\n[runtime.lava-one]\nruntime_token = \"r\"\ncallback_token=\"c\"\n[runtime.two]\nruntime_token=\"t\"\n"), 0o600))
	c := config(t, t.TempDir())
	c.Settings = file
	a, err := open(t, c)
	check(t, err)
	defer func() { check(t, a.Close()) }()
	if a.Tokens["lava-one"] != (runtime.Tokens{Runtime: "r", Callback: "c"}) || a.Tokens["two"].Runtime != "t" || len(a.Tokens) != 2 {
		t.Errorf("%d runtimes have tokens", len(a.Tokens))
	}
}

func TestABrokenSettingsFileIsNamedAndItsSecretsAreNot(t *testing.T) {
	for _, text := range []string{"[runtime.x]\nruntime_token = \"s3cret", "[runtime.x]\nruntime_token = s3cret", "[runtime]\nx = \"s3cret\"", "[runtime.x]\nruntime_token = [\"s3cret\"]"} {
		c := config(t, t.TempDir())
		c.Settings = filepath.Join(t.TempDir(), "kernelci.toml")
		check(t, os.WriteFile(c.Settings, []byte(text), 0o600))
		_, err := open(t, c)
		if !errors.Is(err, errs.Invalid) || !strings.Contains(err.Error(), "KCI_SETTINGS") || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestAMalformedVariableIsNamed(t *testing.T) {
	t.Setenv("HOLDOFF", "soon")
	if _, err := app.FromEnvironment(); !errors.Is(err, errs.Invalid) || !strings.Contains(fmt.Sprint(err), "HOLDOFF: ") {
		t.Errorf("%v", err)
	}
}

func TestEverySettingIsDescribed(t *testing.T) {
	var text strings.Builder
	check(t, app.Describe(&text))
	for _, f := range reflect.VisibleFields(reflect.TypeFor[app.Config]()) {
		name := f.Tag.Get("env")
		if name != "-" && (f.Tag.Get("help") == "" || !strings.Contains(text.String(), name)) {
			t.Errorf("%s is not described", f.Name)
		}
	}
}

func TestAFetchReachesNoPrivateAddressUnlessAllowed(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer server.Close()
	for _, allowed := range []bool{false, true} {
		a := &app.App{Config: app.Config{LocalGit: allowed}}
		response, err := a.Outbound().Get(server.URL)
		if err == nil {
			response.Body.Close()
		}
		if allowed != (err == nil) {
			t.Errorf("allowed %v: %v", allowed, err)
		}
		a = &app.App{Config: app.Config{LocalGit: true, PatchHosts: []string{"127.0.0.1"}, PrivatePatches: allowed}}
		if err := a.Patches().Check(t.Context(), server.URL); allowed != (err == nil) {
			t.Errorf("a patch, allowed %v: %v", allowed, err)
		}
	}
}
