package auth_test

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/alexedwards/argon2id"
	"github.com/golang-jwt/jwt/v5"
	"golang.org/x/crypto/bcrypt"

	"github.com/kernelflow/kernelflow/shared/auth"
	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/node"
)

var (
	start   = time.Date(2025, 1, 12, 8, 0, 0, 0, time.UTC)
	secret  = []byte("a secret of enough bytes")
	unified = []byte("the other secret, unified")
)

const id = node.ID("65f000000000000000000001")

func open(t *testing.T, life time.Duration, now func() time.Time) *auth.Auth {
	t.Helper()
	a, err := auth.New(auth.Options{Secret: secret, Unified: unified, Life: life, Now: now})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestATokenSpeaksForItsUserOrItsNodeUntilItEnds(t *testing.T) {
	now := start
	a := open(t, time.Hour, func() time.Time { return now })
	user, err := a.UserToken(id)
	if err != nil {
		t.Fatal(err)
	}
	job, err := a.JobToken(id, 2*time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := a.Verify(user); err != nil || b != (auth.Bearer{User: id}) {
		t.Errorf("user: %+v, %v", b, err)
	}
	if b, err := a.Verify(job); err != nil || b != (auth.Bearer{Node: id}) {
		t.Errorf("job: %+v, %v", b, err)
	}
	now = start.Add(90 * time.Minute)
	if _, err := a.Verify(user); !errors.Is(err, errs.Unauthenticated) {
		t.Errorf("a lapsed token: %v", err)
	}
	if _, err := a.Verify(job); err != nil {
		t.Errorf("a token that has not lapsed: %v", err)
	}
}

func TestATokenWithoutALifetimeHasNoEnd(t *testing.T) {
	now := start
	a := open(t, 0, func() time.Time { return now })
	token, err := a.UserToken(id)
	if err != nil {
		t.Fatal(err)
	}
	now = start.AddDate(30, 0, 0)
	if _, err := a.Verify(token); err != nil {
		t.Error(err)
	}
}

func TestOnlyOurSignaturesAreAccepted(t *testing.T) {
	a := open(t, 0, func() time.Time { return start })
	claims := func(aud ...string) jwt.RegisteredClaims {
		return jwt.RegisteredClaims{Subject: string(id), Audience: aud}
	}
	sign := func(method jwt.SigningMethod, key any, c jwt.RegisteredClaims) string {
		token, err := jwt.NewWithClaims(method, c).SignedString(key)
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	good := sign(jwt.SigningMethodHS256, secret, claims("fastapi-users:auth"))
	parts := strings.Split(good, ".")
	forged := base64.RawURLEncoding.EncodeToString([]byte(`{"sub":"65f000000000000000000002","aud":["fastapi-users:auth"]}`))
	for name, tc := range map[string]struct {
		token string
		ok    bool
	}{
		"ours":                      {good, true},
		"the unified key":           {sign(jwt.SigningMethodHS256, unified, claims("fastapi-users:auth")), true},
		"another key":               {sign(jwt.SigningMethodHS256, []byte("something else entirely"), claims("fastapi-users:auth")), false},
		"no signature":              {sign(jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, claims("fastapi-users:auth")), false},
		"another algorithm":         {sign(jwt.SigningMethodHS512, secret, claims("fastapi-users:auth")), false},
		"a public key":              {sign(jwt.SigningMethodRS256, rsaKey(t), claims("fastapi-users:auth")), false},
		"personal without an id":    {sign(jwt.SigningMethodHS256, secret, claims("kernelflow:token")), false},
		"another audience":          {sign(jwt.SigningMethodHS256, secret, claims("fastapi-users:reset")), false},
		"two audiences":             {sign(jwt.SigningMethodHS256, secret, claims("fastapi-users:auth", "kernelflow:job")), false},
		"a job's token without end": {sign(jwt.SigningMethodHS256, secret, claims("kernelflow:job")), false},
		"a changed payload":         {parts[0] + "." + forged + "." + parts[2], false},
		"no token":                  {"", false},
		"noise":                     {"a.b.c", false},
	} {
		if _, err := a.Verify(tc.token); (err == nil) != tc.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestPasswordsAreCheckedAndOldHashesReplaced(t *testing.T) {
	a := open(t, 0, func() time.Time { return start })
	hash, err := a.HashPassword("correct horse")
	if err != nil || !strings.HasPrefix(hash, "$argon2id$v=19$m=19456,t=2,p=1$") {
		t.Fatalf("%s, %v", hash, err)
	}
	old, err := bcrypt.GenerateFromPassword([]byte("correct horse"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	upstream, err := argon2id.CreateHash("correct horse", &argon2id.Params{Memory: 65536, Iterations: 3, Parallelism: 4, SaltLength: 16, KeyLength: 32})
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		hash, password string
		ok, outdated   bool
	}{
		"right":           {hash, "correct horse", true, false},
		"wrong":           {hash, "battery staple", false, false},
		"bcrypt":          {string(old), "correct horse", true, true},
		"bcrypt, wrong":   {string(old), "x", false, false},
		"KernelCI's own":  {upstream, "correct horse", true, true},
		"the same, wrong": {upstream, "x", false, false},
		"nobody":          {"", "correct horse", false, false},
		"nobody, empty":   {"", "", false, false},
		"a damaged hash":  {"$argon2id$v=19$rubbish", "correct horse", false, false},
		"an endless word": {hash, strings.Repeat("x", 1<<20), false, false},
	} {
		if ok, outdated := a.CheckPassword(tc.hash, tc.password); ok != tc.ok || outdated != tc.outdated {
			t.Errorf("%s: %v, %v", name, ok, outdated)
		}
	}
}

func TestAShortSecretIsRefused(t *testing.T) {
	for _, o := range []auth.Options{{Secret: []byte("short")}, {Secret: secret, Unified: []byte("short")}} {
		if _, err := auth.New(o); !errors.Is(err, errs.Invalid) {
			t.Errorf("%q, %q: %v", o.Secret, o.Unified, err)
		}
	}
}

func rsaKey(t *testing.T) *rsa.PrivateKey {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return key
}
