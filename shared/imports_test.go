package shared_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"path"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/kernelflow/kernelflow/"

// rooms says, for each package (a pattern of path.Match, first match wins),
// which packages of this module it may import. Downwards only: hosts, catalog,
// functions, domain and interfaces; a driver imports its interface; app alone
// imports drivers.
var rooms = []struct {
	room  string
	allow []string
}{
	{"shared/errs", nil},
	{"shared/node", []string{"shared/errs"}},
	{"shared/ktap", []string{"shared/errs", "shared/node"}},
	{"shared/event", []string{"shared/errs", "shared/node"}},
	{"shared/user", []string{"shared/errs", "shared/node"}},
	{"shared/telemetry", []string{"shared/errs", "shared/node"}},
	{"shared/pipeline", []string{"shared/errs", "shared/node"}},
	{"shared/schedule", []string{"shared/errs", "shared/node", "shared/event", "shared/pipeline"}},
	{"shared/jinja", []string{"shared/errs"}},
	{"shared/yaml", []string{"shared/errs", "shared/jinja"}},
	{"shared/jobdef", []string{"shared/errs", "shared/node", "shared/pipeline", "shared/jinja", "shared/yaml"}},
	{"shared/auth", []string{"shared/errs", "shared/node", "shared/user"}},
	{"shared/git", []string{"shared/errs", "shared/node"}},
	{"shared/patch", []string{"shared/errs"}},
	{"shared/mail", []string{"shared/errs"}},
	{"shared/bus", nil},
	{"shared/storage", []string{"shared/errs"}},
	{"shared/runtime", []string{"shared/errs", "shared/node"}},
	{"shared/lavaresult", []string{"shared/errs", "shared/node", "shared/runtime", "shared/yaml"}},
	{"shared/store", []string{"shared/node", "shared/event", "shared/user", "shared/telemetry"}},
	{"shared/ending", []string{"shared/errs", "shared/node", "shared/ktap"}},
	{"shared/job", []string{"shared/errs", "shared/node", "shared/ktap", "shared/ending"}},
	{"shared/relay", []string{"shared/errs", "shared/node", "shared/event", "shared/store", "shared/bus"}},
	{"shared/store/*", []string{"shared/errs", "shared/node", "shared/event", "shared/user", "shared/telemetry", "shared/store"}},
	{"shared/store/*/*", nil},
	{"shared/bus/*", []string{"shared/errs", "shared/bus"}},
	{"shared/storage/*", []string{"shared/errs", "shared/storage"}},
	{"shared/runtime/*", []string{"shared/errs", "shared/node", "shared/runtime", "shared/job", "shared/lavaresult", "shared/ending"}},
	{"shared/app", []string{"shared/*", "shared/*/*"}},
	{"shared", nil},
	{"functions/catalog", []string{"functions/*", "shared/app", "shared/errs", "shared/event", "shared/node"}},
	{"functions/api", []string{"shared/errs", "shared/node", "shared/event", "shared/user", "shared/auth", "shared/mail", "shared/bus", "shared/storage",
		"shared/store", "shared/telemetry", "shared/ending", "shared/schedule", "shared/jobdef", "shared/pipeline"}},
	{"functions/*", []string{"shared/errs", "shared/node", "shared/event", "shared/user", "shared/pipeline", "shared/schedule",
		"shared/jobdef", "shared/auth", "shared/git", "shared/patch", "shared/mail", "shared/bus", "shared/storage", "shared/runtime", "shared/lavaresult", "shared/store", "shared/relay", "shared/telemetry"}},
	{"infra/*", []string{"functions/catalog", "shared/app", "shared/errs", "shared/event"}},
	{"local", []string{"local/*", "functions/catalog", "shared/app", "shared/errs", "shared/job", "shared/mail", "shared/pipeline"}},
	{"local/*", []string{"local/*", "functions/catalog", "shared/*"}},
}

// doors says which package alone may import a product of somebody else's.
var doors = []struct {
	product string // prefix of the import path
	room    string
}{
	{"go.mongodb.org/mongo-driver", "shared/store/mongo"},
	{"github.com/FerretDB/FerretDB", "shared/store/mongo/mongotest"},
	{"modernc.org/sqlite", "shared/store/sqlite"},
	{"github.com/redis/go-redis", "shared/bus/redis"},
	{"github.com/alicebob/miniredis", "shared/bus/redis"},
	{"gocloud.dev", "shared/storage/blob"},
	{"github.com/wneessen/go-mail", "shared/mail"},
	{"github.com/BurntSushi/toml", "shared/app"},
	{"go.yaml.in/yaml", "shared/yaml"},
	{"github.com/goccy/go-yaml", "shared/pipeline"},
	{"github.com/golang-jwt/jwt", "shared/auth"},
	{"github.com/danielgtaylor/huma", "functions/api"},
	{"github.com/klauspost/pgzip", "shared/git"},
	{"github.com/bluekeyes/go-gitdiff", "shared/patch"},
	{"github.com/klauspost/compress/zstd", "functions/api"},
	{"github.com/therootcompany/xz", "functions/api"},
	{"github.com/GoogleCloudPlatform/functions-framework-go", "infra/cloudrun"},
}

type pkg struct {
	ImportPath string
	Imports    []string
}

func packages(t *testing.T) []pkg {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Imports", module+"...")
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.Bytes())
	}
	var list []pkg
	for decoder := json.NewDecoder(&stdout); ; {
		var p pkg
		err := decoder.Decode(&p)
		if errors.Is(err, io.EOF) {
			return list
		}
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, p)
	}
}

func matches(pattern, name string) bool {
	ok, err := path.Match(pattern, name)
	return ok && err == nil
}

func TestImportsGoDownOnly(t *testing.T) {
	for _, p := range packages(t) {
		name := strings.TrimPrefix(p.ImportPath, module)
		i := slices.IndexFunc(rooms, func(r struct {
			room  string
			allow []string
		}) bool {
			return matches(r.room, name)
		})
		if i < 0 {
			t.Errorf("%s has no row in the table of rooms: say where it belongs", name)
			continue
		}
		for _, imported := range p.Imports {
			dep, ours := strings.CutPrefix(imported, module)
			if ours && !slices.ContainsFunc(rooms[i].allow, func(a string) bool { return matches(a, dep) }) {
				t.Errorf("%s imports %s: its room allows only %v", name, dep, rooms[i].allow)
			}
		}
	}
}

func TestEachProductHasOneDoor(t *testing.T) {
	for _, p := range packages(t) {
		name := strings.TrimPrefix(p.ImportPath, module)
		for _, imported := range p.Imports {
			for _, door := range doors {
				if strings.HasPrefix(imported, door.product) && name != door.room {
					t.Errorf("%s imports %s: only %s may", name, imported, door.room)
				}
			}
		}
	}
}
