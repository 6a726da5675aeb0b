package api_test

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"golang.org/x/crypto/bcrypt"

	"github.com/kernelflow/kernelflow/functions/api"
	"github.com/kernelflow/kernelflow/shared/auth"
	"github.com/kernelflow/kernelflow/shared/bus/redis"
	"github.com/kernelflow/kernelflow/shared/errs"
	"github.com/kernelflow/kernelflow/shared/node"
	"github.com/kernelflow/kernelflow/shared/store"
	"github.com/kernelflow/kernelflow/shared/user"
)

const (
	adminID = "65f0000000000000000000a1"
	bobID   = "65f0000000000000000000b0"
)

// form posts a form; the address is that of the client.
func (s *site) form(path, address string, fields ...string) (*http.Response, string) {
	s.t.Helper()
	values := url.Values{}
	for i := 0; i < len(fields); i += 2 {
		values.Set(fields[i], fields[i+1])
	}
	r, err := http.NewRequestWithContext(s.t.Context(), "POST", s.url+path, strings.NewReader(values.Encode()))
	check(s.t, err)
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if address != "" {
		r.Header.Set("X-Forwarded-For", address)
	}
	return respond(s.t, r)
}

// login returns the status and the token or the answer.
func (s *site) login(name, word string) (int, string) {
	s.t.Helper()
	response, answer := s.form("/latest/user/login", "", "username", name, "password", word)
	var got struct {
		AccessToken string `json:"access_token"`
	}
	check(s.t, json.Unmarshal([]byte(answer), &got))
	if got.AccessToken != "" {
		answer = got.AccessToken
	}
	return response.StatusCode, answer
}

func (s *site) user(token, path string) user.User {
	s.t.Helper()
	var u user.User
	check(s.t, json.Unmarshal([]byte(s.want(token, "GET", path, "", 200, "")), &u))
	return u
}

func (s *site) group(name string) string {
	s.t.Helper()
	var g user.Group
	check(s.t, json.Unmarshal([]byte(s.want(s.admin, "POST", "/latest/user-groups", fmt.Sprintf(`{"name":%q}`, name), 200, "")), &g))
	return string(g.ID)
}

const (
	bobJSON      = `{"id":"` + bobID + `","email":"bob@example.org","username":"bob","is_active":true,"is_superuser":false,"is_verified":true,"groups":[]}`
	unauthorized = `{"detail":"Unauthorized"}`
	forbidden    = `{"detail":"Forbidden"}`
)

func TestUserLoginTakesAPasswordForm(t *testing.T) {
	s := newSite(t)
	response, answer := s.form("/latest/user/login", "", "username", "bob", "password", password, "grant_type", "password")
	if response.StatusCode != 200 || !strings.HasSuffix(answer, `"token_type":"bearer"}`) {
		t.Errorf("%d %s", response.StatusCode, answer)
	}
	for name, tc := range map[string]struct {
		fields []string
		status int
		answer string
	}{
		"wrong password": {[]string{"username", "bob", "password", "x"}, 400, `{"detail":"LOGIN_BAD_CREDENTIALS"}`},
		"unknown name":   {[]string{"username", "nobody", "password", password}, 400, `{"detail":"LOGIN_BAD_CREDENTIALS"}`},
		"no password":    {[]string{"username", "bob"}, 422, `{"detail":[{"loc":["body","password"],"msg":"Field required","type":"missing"}]}`},
	} {
		if response, answer := s.form("/latest/user/login", "", tc.fields...); response.StatusCode != tc.status || answer != tc.answer {
			t.Errorf("%s: %d %s", name, response.StatusCode, answer)
		}
	}
	s.want(s.admin, "PATCH", "/latest/user/"+bobID, `{"is_verified":false}`, 200, "")
	if status, answer := s.login("bob", password); status != 400 || answer != `{"detail":"LOGIN_USER_NOT_VERIFIED"}` {
		t.Errorf("not verified: %d %s", status, answer)
	}
	s.want(s.bob, "GET", "/latest/whoami", "", 403, forbidden)
	s.want(s.admin, "PATCH", "/latest/user/"+bobID, `{"is_active":false}`, 200, "")
	if status, answer := s.login("bob", password); status != 400 || answer != `{"detail":"LOGIN_BAD_CREDENTIALS"}` {
		t.Errorf("not active: %d %s", status, answer)
	}
	s.want(s.bob, "GET", "/latest/whoami", "", 401, unauthorized)
}

func TestALoginReplacesABcryptHash(t *testing.T) {
	s := newSite(t)
	old, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	check(t, err)
	_, err = s.store.UpdateUser(t.Context(), bobID, func(u *user.User) error { u.PasswordHash = string(old); return nil })
	check(t, err)
	if status, _ := s.login("bob", "x"); status != 400 {
		t.Errorf("a wrong password: %d", status)
	}
	for range 2 {
		if status, answer := s.login("bob", password); status != 200 {
			t.Errorf("%d %s", status, answer)
		}
	}
	u, err := s.store.User(t.Context(), bobID)
	check(t, err)
	if !strings.HasPrefix(u.PasswordHash, "$argon2id$") {
		t.Errorf("the hash is still %.4s", u.PasswordHash)
	}
}

func TestLoginsAreLimitedByAccountAndByAddress(t *testing.T) {
	limits := api.LoginLimits{Account: 3, Address: 5, Window: time.Hour}
	s := newSite(t, func(o *api.Options) { o.Logins = limits })
	try := func(path, name, word, address string, status int) {
		t.Helper()
		response, answer := s.form(path, address, "username", name, "password", word, "new_password", "later")
		if response.StatusCode != status {
			t.Errorf("%s of %s from %s: %d %s, want %d", path, name, address, response.StatusCode, answer, status)
		}
		wait, err := strconv.Atoi(response.Header.Get("Retry-After"))
		if (status == 429) != (err == nil && wait > 0 && wait <= 3600) {
			t.Errorf("%d with Retry-After %q", status, response.Header.Get("Retry-After"))
		}
	}
	const login, update = "/latest/user/login", "/user/update-password"
	for range 10 { // good ones do not count
		try(login, "admin", password, "192.0.2.1", 200)
	}
	try(login, "bob", "x", "192.0.2.1", 400)
	try(update, "BOB", "x", "192.0.2.2", 400)
	try(login, "bob", "x", "192.0.2.3", 400)
	try(login, "bob", password, "192.0.2.4", 429)
	try(update, "bob", password, "192.0.2.4", 429)
	for i := range 5 {
		try(login, fmt.Sprint("guess-", i), "x", "2001:db8::"+fmt.Sprint(i), 400)
	}
	try(login, "admin", password, "2001:db8::99", 429)
	try(login, "admin", password, "2001:db8:0:1::99", 200)
	// The last address is the one that our proxy has seen.
	try(login, "admin", password, "192.0.2.77, 2001:db8::7", 429)
}

func TestManyLoginsAtOnceAreLimitedAsOneAfterTheOther(t *testing.T) {
	s := newSite(t, func(o *api.Options) { o.Logins = api.LoginLimits{Account: 3, Address: 1000, Window: time.Hour} })
	var group sync.WaitGroup
	statuses := make(chan int, 12)
	for range 12 {
		group.Go(func() {
			response, _ := s.form("/latest/user/login", "", "username", "bob", "password", "x")
			statuses <- response.StatusCode
		})
	}
	group.Wait()
	close(statuses)
	seen := map[int]int{}
	for status := range statuses {
		seen[status]++
	}
	if seen[400] != 3 || seen[429] != 9 {
		t.Errorf("%v", seen)
	}
}

func TestTokensOfDeletedAndDeactivatedUsersAreRefused(t *testing.T) {
	s := newSite(t)
	s.want(s.bob, "GET", "/latest/whoami", "", 200, bobJSON)
	s.want(s.admin, "PATCH", "/latest/user/"+bobID, `{"is_active":false}`, 200, "")
	s.want(s.bob, "GET", "/latest/whoami", "", 401, unauthorized)
	s.want(s.bob, "POST", "/latest/node", checkoutBody, 401, unauthorized)
	s.want(s.admin, "PATCH", "/latest/user/"+bobID, `{"is_active":true}`, 200, "")
	s.want(s.bob, "GET", "/latest/whoami", "", 200, "")
	s.want(s.admin, "DELETE", "/latest/user/"+bobID, "", 204, "")
	s.want(s.bob, "GET", "/latest/whoami", "", 401, unauthorized)
}

func TestOnlyTokensOfOursAreTaken(t *testing.T) {
	s := newSite(t)
	sign := func(method jwt.SigningMethod, key any, claims jwt.MapClaims) string {
		token, err := jwt.NewWithClaims(method, claims).SignedString(key)
		check(t, err)
		return token
	}
	mine := jwt.MapClaims{"sub": bobID, "aud": []string{"fastapi-users:auth"}}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	check(t, err)
	brought := jwt.NewWithClaims(jwt.SigningMethodHS256, mine)
	brought.Header["jwk"] = map[string]any{"kty": "oct", "k": base64.RawURLEncoding.EncodeToString([]byte("brought"))}
	brought.Header["kid"] = "../../dev/null"
	own, err := brought.SignedString([]byte("brought"))
	check(t, err)
	secret := []byte("a secret of enough bytes")
	s.want(sign(jwt.SigningMethodHS256, secret, mine), "GET", "/latest/whoami", "", 200, bobJSON)
	for name, token := range map[string]string{
		"alg none":         sign(jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, mine),
		"HS384":            sign(jwt.SigningMethodHS384, secret, mine),
		"another key":      sign(jwt.SigningMethodHS256, []byte("another secret of enough bytes"), mine),
		"an empty key":     sign(jwt.SigningMethodHS256, []byte{}, mine),
		"another audience": sign(jwt.SigningMethodHS256, secret, jwt.MapClaims{"sub": bobID, "aud": "fastapi-users:reset"}),
		"no audience":      sign(jwt.SigningMethodHS256, secret, jwt.MapClaims{"sub": bobID}),
		"ended":            sign(jwt.SigningMethodHS256, secret, jwt.MapClaims{"sub": bobID, "aud": "fastapi-users:auth", "exp": 1}),
		"an endless end":   sign(jwt.SigningMethodHS256, secret, jwt.MapClaims{"sub": bobID, "aud": "fastapi-users:auth", "exp": -1e300}),
		"no subject":       sign(jwt.SigningMethodHS256, secret, jwt.MapClaims{"aud": "fastapi-users:auth"}),
		"a subject of 12":  sign(jwt.SigningMethodHS256, secret, jwt.MapClaims{"sub": "bob", "aud": "fastapi-users:auth"}),
		"RS256":            sign(jwt.SigningMethodRS256, rsaKey, mine),
		"a key of its own": own,
		"noise":            "a.b.c",
		"much noise":       strings.Repeat("x", 5000),
	} {
		if status, answer := s.call(token, "GET", "/latest/whoami", ""); status != 401 || answer != unauthorized {
			t.Errorf("%s: %d %s", name, status, answer)
		}
	}
}

func TestUsersIsAPageThatCanBeFiltered(t *testing.T) {
	s := newSite(t)
	s.group("lab")
	s.account("65f0000000000000000000c0", "carol", false)
	s.want(s.admin, "PATCH", "/latest/user/65f0000000000000000000c0", `{"groups":["lab"],"is_active":false}`, 200, "")
	s.want("", "GET", "/latest/users", "", 401, unauthorized)
	s.want(s.bob, "GET", "/latest/users?limit=1&offset=1", "", 200, `{"items":[`+bobJSON+`],"total":3,"limit":1,"offset":1}`)
	for query, want := range map[string]string{
		"": "admin bob carol", "?username=bob": "bob", "?email=carol@example.org": "carol", "?is_superuser=true": "admin",
		"?is_active=true": "admin bob", "?is_verified=false": "", "?groups.name=lab": "carol", "?groups.name=lab&is_active=true": "", "?username=nobody": "",
	} {
		var page struct {
			Items []user.User `json:"items"`
			Total int         `json:"total"`
			Limit int         `json:"limit"`
		}
		answer := s.want(s.bob, "GET", "/latest/users"+query, "", 200, "")
		check(t, json.Unmarshal([]byte(answer), &page))
		var names []string
		for _, u := range page.Items {
			names = append(names, u.Username)
		}
		if strings.Join(names, " ") != want || page.Total != len(names) || page.Limit != 50 || strings.Contains(answer, "argon2") {
			t.Errorf("%s: %s", query, answer)
		}
	}
	for _, query := range []string{"?is_active=perhaps", "?limit=0", "?limit=1001", "?offset=-1"} {
		s.want(s.bob, "GET", "/latest/users"+query, "", 422, "")
	}
	s.want(s.bob, "GET", "/latest/users?hashed_password=x", "", 400, "")
	s.want(s.bob, "GET", "/latest/users?is_active=", "", 422, "")
}

func TestUserByIDIsReadChangedAndDeleted(t *testing.T) {
	s := newSite(t)
	s.group("lab")
	const path, unknown = "/latest/user/" + bobID, "/latest/user/65f0000000000000000000ff"
	for _, tc := range []struct {
		token, method, path, body string
		status                    int
		answer                    string
	}{
		{s.bob, "GET", path, "", 200, bobJSON},
		{"", "GET", path, "", 401, unauthorized},
		{s.bob, "GET", unknown, "", 404, `{"detail":"Not Found"}`},
		{s.bob, "GET", "/latest/user/xyz", "", 404, `{"detail":"Not Found"}`},
		{s.bob, "PATCH", path, `{"is_superuser":true}`, 403, forbidden},
		{s.bob, "DELETE", path, "", 403, forbidden},
		{"", "DELETE", path, "", 401, unauthorized},
		{s.admin, "PATCH", unknown, `{}`, 404, `{"detail":"User not found with id: 65f0000000000000000000ff"}`},
		{s.admin, "PATCH", "/latest/user/xyz", `{}`, 400, ""},
		{s.admin, "PATCH", path, `{"username":"admin"}`, 400, `{"detail":"Username already exists: admin"}`},
		{s.admin, "PATCH", path, `{"email":"ADMIN@example.org"}`, 400, `{"detail":"UPDATE_USER_EMAIL_ALREADY_EXISTS"}`},
		{s.admin, "PATCH", path, `{"groups":["nothing"]}`, 400, `{"detail":"User group does not exist with name: nothing"}`},
		{s.admin, "PATCH", path, `{"groups":["lab","lab"]}`, 422, `{"detail":[{"loc":["body","groups"],"msg":"Groups must have unique names.","type":"value_error"}]}`},
		{s.admin, "PATCH", path, `{"groups":[{}]}`, 422, ""},
		{s.admin, "PATCH", path, `{"groups":[["lab"],["lab"]]}`, 422, ""},
		{s.admin, "PATCH", path, `{"password":""}`, 400, `{"detail":{"code":"UPDATE_USER_INVALID_PASSWORD","reason":"password: must be 1 to 1024 bytes long"}}`},
		{s.admin, "PATCH", path, `{"password":"` + strings.Repeat("é", 257) + `"}`, 400, `{"detail":{"code":"UPDATE_USER_INVALID_PASSWORD","reason":"password: must be 256 characters long at most"}}`},
		{s.admin, "PATCH", path, `{"email":"bob"}`, 422, `{"detail":[{"loc":["body","email"],"msg":"expected string to be an e-mail address","type":"value_error"}]}`},
		{s.admin, "PATCH", path, `{"email":"Bob <bob@example.org>"}`, 422, ""},
		{s.admin, "PATCH", path, `{"username":"b o b"}`, 422, ""},
		{s.admin, "PATCH", path, `{"username":""}`, 422, ""},
		{s.admin, "PATCH", path, `{"is_active":"yes"}`, 422, ""},
		{s.admin, "PATCH", path, `{"hashed_password":"x","id":"65f0000000000000000000ff"}`, 200, bobJSON},
		{s.admin, "PATCH", path, `{`, 422, ""},
		{s.admin, "GET", path, "", 200, bobJSON}, // nothing of all that was written
		{s.admin, "PATCH", path, `{"username":null,"groups":null,"is_active":null}`, 200, bobJSON},
		{s.admin, "PATCH", path, `{"groups":["lab"],"is_superuser":true}`, 200, ""},
	} {
		s.want(tc.token, tc.method, tc.path, tc.body, tc.status, tc.answer)
	}
	u := s.user(s.bob, "/latest/whoami")
	if !u.Superuser || len(u.Groups) != 1 || u.Groups[0].Name != "lab" || u.Groups[0].ID == "" {
		t.Errorf("%+v", u)
	}
	s.want(s.admin, "PATCH", path, `{"email":"bob@lab.example.org","groups":[],"is_superuser":false}`, 200,
		`{"id":"`+bobID+`","email":"bob@lab.example.org","username":"bob","is_active":true,"is_superuser":false,"is_verified":false,"groups":[]}`)
	s.want(s.admin, "PATCH", path, `{"email":"bob@example.org","is_verified":true,"password":"battery staple"}`, 200, bobJSON)
	if status, _ := s.login("bob", "battery staple"); status != 200 {
		t.Errorf("the new password: %d", status)
	}
	s.want(s.admin, "DELETE", path, "", 204, "")
	s.want(s.admin, "GET", path, "", 404, "")
	s.want(s.admin, "DELETE", path, "", 404, `{"detail":"Not Found"}`)
}

func TestUserMeChangesNoGroupsAndNoFlags(t *testing.T) {
	s := newSite(t)
	s.group("lab")
	s.want(s.bob, "GET", "/latest/user/me", "", 200, bobJSON)
	s.want(s.bob, "PATCH", "/latest/user/me", `{"groups":["lab"]}`, 400, `{"detail":"User groups can only be updated by an admin user"}`)
	s.want(s.bob, "PATCH", "/latest/user/me", `{"groups":[],"is_superuser":true,"is_verified":false,"is_active":false}`, 200, bobJSON)
	s.want(s.bob, "PATCH", "/latest/user/me", `{"username":"admin"}`, 400, `{"detail":"Username already exists: admin"}`)
	s.want(s.bob, "PATCH", "/latest/user/me", `{"email":"admin@example.org"}`, 400, `{"detail":"UPDATE_USER_EMAIL_ALREADY_EXISTS"}`)
	s.want("", "PATCH", "/latest/user/me", `{"username":"eve"}`, 401, unauthorized)
	s.want(s.bob, "PATCH", "/latest/user/me", `{"username":"robert","password":"battery staple"}`, 200, "")
	if status, _ := s.login("robert", "battery staple"); status != 200 {
		t.Errorf("the new name and password: %d", status)
	}
	s.want(s.bob, "PATCH", "/latest/user/me", `{"email":"robert@example.org"}`, 200, "")
	if u := s.user(s.admin, "/latest/user/"+bobID); u.Verified || u.Email != "robert@example.org" || u.Superuser {
		t.Errorf("%+v", u)
	}
}

func TestTheLastAdminCannotBeDeletedOrDemoted(t *testing.T) {
	s := newSite(t)
	const path, last = "/latest/user/" + adminID, `{"detail":"the last admin must stay active, verified and a superuser"}`
	s.want(s.admin, "DELETE", path, "", 409, last)
	s.want(s.admin, "PATCH", path, `{"is_superuser":false}`, 409, last)
	s.want(s.admin, "PATCH", path, `{"is_active":false}`, 409, last)
	s.want(s.admin, "PATCH", path, `{"is_verified":false}`, 409, last)
	s.want(s.admin, "PATCH", "/latest/user/me", `{"email":"root@example.org"}`, 409, last)
	s.want(s.admin, "PATCH", path, `{"email":"root@example.org","is_verified":true,"is_active":true}`, 200, "")
	// Who cannot log in is no admin to count on.
	s.invite(`{"username":"carol","email":"carol@example.org","is_superuser":true,"send_email":false}`)
	s.want(s.admin, "DELETE", path, "", 409, last)
	s.want(s.admin, "PATCH", "/latest/user/"+bobID, `{"is_superuser":true}`, 200, "")
	// Of two who demote each other at once, one stays.
	var group sync.WaitGroup
	for token, victim := range map[string]string{s.admin: bobID, s.bob: adminID} {
		group.Go(func() { s.call(token, "PATCH", "/latest/user/"+victim, `{"is_superuser":false}`) })
	}
	group.Wait()
	yes := true
	if admins, _, err := s.store.ListUsers(t.Context(), store.UserFilter{Superuser: &yes, Active: &yes, Verified: &yes}, 0, 0); err != nil || len(admins) != 1 {
		t.Errorf("%d admins: %v", len(admins), err)
	}
}

func TestAChangeOfAccountsWaitsForItsTurn(t *testing.T) {
	s := newSite(t)
	check(t, s.store.Claim(t.Context(), "accounts", "another instance", time.Now().Add(100*time.Millisecond)))
	s.want(s.admin, "PATCH", "/latest/user/"+bobID, `{"is_verified":false}`, 200, "")
	if err := s.store.Claim(t.Context(), "accounts", "the next", time.Now()); err != nil {
		t.Errorf("the turn was not given back: %v", err)
	}
}

func TestUserUpdatePasswordTakesTheOneBefore(t *testing.T) {
	s := newSite(t)
	change := func(word, next string) (int, string) {
		response, answer := s.form("/latest/user/update-password", "", "username", "bob", "password", word, "new_password", next)
		return response.StatusCode, answer
	}
	if status, answer := change("x", "battery staple"); status != 400 || answer != `{"detail":"LOGIN_BAD_CREDENTIALS"}` {
		t.Errorf("%d %s", status, answer)
	}
	if response, answer := s.form("/latest/user/update-password", "", "username", "bob", "password", password); response.StatusCode != 422 || !strings.Contains(answer, `"new_password"`) {
		t.Errorf("%d %s", response.StatusCode, answer)
	}
	for _, bad := range []string{"", strings.Repeat("x", 2000)} {
		if status, answer := change(password, bad); status != 400 || !strings.Contains(answer, "UPDATE_USER_INVALID_PASSWORD") {
			t.Errorf("%d %s", status, answer)
		}
	}
	if status, answer := change(password, "battery staple"); status != 200 || answer != "null" {
		t.Errorf("%d %s", status, answer)
	}
	for word, want := range map[string]int{password: 400, "battery staple": 200} {
		if status, _ := s.login("bob", word); status != want {
			t.Errorf("%s: %d", word, status)
		}
	}
}

func TestUserRegisterIsClosed(t *testing.T) {
	s := newSite(t)
	for _, token := range []string{"", s.bob, s.admin} {
		s.want(token, "POST", "/latest/user/register", `{"username":"eve","email":"eve@example.org","password":"x"}`, 404,
			`{"detail":"User registration is disabled; use /user/invite instead."}`)
	}
}

func TestUserGroupsAreMadeAndDeletedByAdmins(t *testing.T) {
	s := newSite(t)
	lab, free := s.group("lab"), s.group("free")
	s.want(s.admin, "PATCH", "/latest/user/"+bobID, `{"groups":["lab"]}`, 200, "")
	const path = "/latest/user-groups"
	labJSON := fmt.Sprintf(`{"id":%q,"name":"lab"}`, lab)
	for _, tc := range []struct {
		token, method, path, body string
		status                    int
		answer                    string
	}{
		{s.bob, "GET", path + "?limit=1", "", 200, `{"items":[` + labJSON + `],"total":2,"limit":1,"offset":0}`},
		{s.bob, "GET", path + "?name=free", "", 200, fmt.Sprintf(`{"items":[{"id":%q,"name":"free"}],"total":1,"limit":50,"offset":0}`, free)},
		{s.bob, "GET", path + "?nonsense=1", "", 400, ""},
		{"", "GET", path, "", 401, unauthorized},
		{s.bob, "GET", path + "/" + lab, "", 200, labJSON},
		{"", "GET", path + "/" + lab, "", 401, unauthorized},
		{s.bob, "GET", path + "/65f0000000000000000000ff", "", 404, `{"detail":"User group not found with id: 65f0000000000000000000ff"}`},
		{s.bob, "GET", path + "/xyz", "", 400, ""},
		{s.bob, "POST", path, `{"name":"x"}`, 403, forbidden},
		{s.admin, "POST", path, `{"name":"lab"}`, 400, `{"detail":"User group already exists with name: lab"}`},
		{s.admin, "POST", path, `{"name":""}`, 422, ""},
		{s.admin, "POST", path, `{}`, 422, ""},
		{s.bob, "DELETE", path + "/" + free, "", 403, forbidden},
		{s.admin, "DELETE", path + "/" + lab, "", 409, `{"detail":"User group is assigned to users and cannot be deleted"}`},
		{s.admin, "DELETE", path + "/" + free, "", 204, ""},
		{s.admin, "DELETE", path + "/" + free, "", 404, fmt.Sprintf(`{"detail":"User group not found with id: %s"}`, free)},
		{s.admin, "PATCH", "/latest/user/" + bobID, `{"groups":[]}`, 200, ""},
		{s.admin, "DELETE", path + "/" + lab, "", 204, ""},
	} {
		s.want(tc.token, tc.method, tc.path, tc.body, tc.status, tc.answer)
	}
}

func TestAMemberOfANodesGroupMayEditIt(t *testing.T) {
	s := newSite(t)
	s.group("runtime:shell:node-editor")
	root := s.create(s.admin, checkoutBody)
	n, _ := s.job(s.admin, root.ID)
	path := "/latest/node/" + string(n.ID)
	s.want(s.bob, "PATCH", path, `{"result":"pass"}`, 401, "")
	s.want(s.admin, "PATCH", "/latest/user/"+bobID, `{"groups":["runtime:shell:node-editor"]}`, 200, "")
	s.want(s.bob, "PATCH", path, `{"result":"pass"}`, 200, "")
}

type tokenAnswer struct {
	ID      node.ID  `json:"id"`
	Name    string   `json:"name"`
	Scopes  []string `json:"scopes"`
	Expires *string  `json:"expires"`
	Token   string   `json:"token"`
}

func (s *site) token(owner, scopes string) tokenAnswer {
	s.t.Helper()
	var made tokenAnswer
	check(s.t, json.Unmarshal([]byte(s.want(owner, "POST", "/latest/user/tokens", `{"name":"laptop","scopes":[`+scopes+`]}`, 200, "")), &made))
	return made
}

func TestUserTokensAreMadeListedAndRevokedByTheirOwner(t *testing.T) {
	s := newSite(t)
	made := s.token(s.bob, `"node:write","checkout"`)
	s.want(made.Token, "GET", "/latest/whoami", "", 200, bobJSON)
	s.want(made.Token, "POST", "/latest/node", checkoutBody, 200, "")
	list := s.want(s.bob, "GET", "/latest/user/tokens", "", 200, "")
	if !strings.Contains(list, string(made.ID)) || !strings.Contains(list, `"expires":null`) || strings.Contains(list, `"token"`) || strings.Contains(list, made.Token) {
		t.Errorf("%s", list)
	}
	permit, err := s.auth.Pipeline(t.Context(), s.store, made.Token)
	if err != nil || permit.Email != "bob@example.org" || !permit.Allows("checkout") || permit.Allows("patchset") {
		t.Errorf("%+v, %v", permit, err)
	}
	s.want(s.admin, "GET", "/latest/user/tokens", "", 200, "[]")
	s.want(s.admin, "DELETE", "/latest/user/tokens/"+string(made.ID), "", 404, fmt.Sprintf(`{"detail":"Token not found with id: %s"}`, made.ID))
	s.want(s.bob, "DELETE", "/latest/user/tokens/xyz", "", 400, "")
	s.want(s.bob, "DELETE", "/latest/user/tokens/"+string(made.ID), "", 204, "")
	s.want(made.Token, "POST", "/latest/node", checkoutBody, 401, unauthorized)
	if _, err := s.auth.Pipeline(t.Context(), s.store, made.Token); errs.KindOf(err) != errs.Unauthenticated {
		t.Errorf("a revoked token at the pipeline: %v", err)
	}
	for _, body := range []string{
		`{"name":"","scopes":["checkout"]}`, `{"name":"x","scopes":[]}`, `{"name":"x"}`, `{"name":"x","scopes":["everything"]}`, `{"name":"x","scopes":null}`,
		`{"name":"x","scopes":[{}]}`, `{"name":"x","scopes":["checkout","checkout"]}`,
		`{"name":"x","scopes":["checkout"],"expires":"yesterday"}`, `{"name":"x","scopes":["checkout"],"expires":"2001-01-01"}`,
	} {
		s.want(s.bob, "POST", "/latest/user/tokens", body, 422, "")
	}
	s.want(s.bob, "POST", "/latest/user/tokens", `{"name":"x","scopes":["admin"]}`, 403, "")
	s.want("", "POST", "/latest/user/tokens", `{"name":"x","scopes":["checkout"]}`, 401, unauthorized)
}

func TestATokenDoesWhatItsScopesSayAndNoMore(t *testing.T) {
	s := newSite(t)
	n := s.create(s.bob, checkoutBody)
	uses := map[string]struct{ method, path, body string }{
		"node:write":  {"PATCH", "/latest/node/" + string(n.ID), `{"debug":{}}`},
		"events":      {"POST", "/latest/subscribe/node", ""},
		"admin":       {"GET", "/latest/users", ""},
		"admin too":   {"PATCH", "/latest/user/" + bobID, `{}`},
		"itself":      {"POST", "/latest/user/tokens", `{"name":"x","scopes":["checkout"]}`},
		"its owner":   {"PATCH", "/latest/user/me", `{"password":"x"}`},
		"who it is":   {"GET", "/latest/user/me", ""},
		"other lists": {"GET", "/latest/stats/subscriptions", ""},
	}
	for scope, may := range map[string][]string{
		"node:read": nil, "node:write": {"node:write"}, "events": {"events"}, "storage": nil, "checkout": nil,
		"admin": {"admin", "admin too", "other lists"},
	} {
		token := s.token(s.admin, strconv.Quote(scope)).Token
		for use, call := range uses {
			want := 403
			for _, allowed := range may {
				if allowed == use {
					want = 200
				}
			}
			if scope == "node:write" && use == "node:write" {
				want = 401 // not the owner of the node: a superuser only by the scope admin
			}
			if status, answer := s.call(token, call.method, call.path, call.body); status != want {
				t.Errorf("%s for %s: %d %s, want %d", scope, use, status, answer, want)
			}
		}
		if status, _ := s.upload(token, "admin/x", "x"); (status == 403) != (scope != "storage") {
			t.Errorf("%s uploads: %d", scope, status)
		}
	}
	s.want(s.token(s.bob, `"node:write"`).Token, "PATCH", "/latest/node/"+string(n.ID), `{"debug":{}}`, 200, "")
}

// own are the routes that no personal token may use.
var own = []string{"/user/me", "/user/tokens", "/user/tokens/{id}", "/user/logout"}

func TestEveryOtherRouteHasAScope(t *testing.T) {
	s := newSite(t, func(o *api.Options) { o.KeepAlive, o.PopWait = time.Millisecond, time.Millisecond })
	var description struct {
		Paths map[string]map[string]struct{ Security []any }
	}
	check(t, json.Unmarshal([]byte(s.want("", "GET", "/openapi.json", "", 200, "")), &description))
	var all []string
	for _, scope := range user.Scopes {
		all = append(all, strconv.Quote(string(scope)))
	}
	token := s.token(s.admin, strings.Join(all, ",")).Token
	braces := regexp.MustCompile(`\{[^}]+\}`)
	closed := 0
	for path, methods := range description.Paths {
		for method, op := range methods {
			if op.Security == nil {
				continue
			}
			_, answer := s.call(token, strings.ToUpper(method), "/latest"+braces.ReplaceAllString(path, "7"), "")
			refused := strings.Contains(answer, "a personal token cannot be used here")
			if refused != slices.Contains(own, path) {
				t.Errorf("%s %s: %s", method, path, answer)
			}
			if refused {
				closed++
			}
		}
	}
	if closed != 6 {
		t.Errorf("%d routes are closed", closed)
	}
}

func TestALogoutEndsNothing(t *testing.T) {
	s := newSite(t)
	s.want(s.bob, "POST", "/latest/user/logout", "", 204, "")
	s.want("", "POST", "/latest/user/logout", "", 401, unauthorized)
	s.want(s.bob, "GET", "/latest/whoami", "", 200, bobJSON)
}

func TestInstancesShareRevocationsAndLimits(t *testing.T) {
	var shared api.Options
	first := newSite(t, func(o *api.Options) {
		o.Logins = api.LoginLimits{Account: 3, Address: 100, Window: time.Hour}
		shared = *o
	})
	handler, err := api.New(shared)
	check(t, err)
	server := httptest.NewServer(handler)
	defer server.Close()
	second := &site{t: t, url: server.URL, store: first.store, auth: first.auth, admin: first.admin, bob: first.bob}
	made := first.token(first.bob, `"node:read"`)
	second.want(made.Token, "GET", "/latest/whoami", "", 200, bobJSON)
	first.want(first.bob, "DELETE", "/latest/user/tokens/"+string(made.ID), "", 204, "")
	second.want(made.Token, "GET", "/latest/whoami", "", 401, unauthorized)
	for i, s := range []*site{first, second, first, second} {
		want := 400
		if i == 3 {
			want = 429
		}
		if status, answer := s.login("bob", "x"); status != want {
			t.Errorf("try %d: %d %s", i, status, answer)
		}
	}
}

func TestWithoutTheBusTokensWorkAndLoginsWait(t *testing.T) {
	away, err := redis.Open(redis.Options{Addr: "127.0.0.1:1"})
	check(t, err)
	defer func() { check(t, away.Close()) }()
	s := newSite(t, func(o *api.Options) { o.Bus = away })
	response, answer := s.form("/latest/user/login", "", "username", "bob", "password", password)
	if response.StatusCode != 503 || response.Header.Get("Retry-After") == "" || strings.Contains(answer, "127.0.0.1") {
		t.Errorf("%d %s", response.StatusCode, answer)
	}
	s.want(s.bob, "GET", "/latest/whoami", "", 200, bobJSON)
	s.want(s.admin, "PATCH", "/latest/user/"+bobID, `{"is_verified":true}`, 200, bobJSON)
}

func TestAPersonalTokenEnds(t *testing.T) {
	now := time.Now()
	var mu sync.Mutex
	clock := func() time.Time { mu.Lock(); defer mu.Unlock(); return now }
	a, err := auth.New(auth.Options{Secret: []byte("a secret of enough bytes"), Now: clock})
	check(t, err)
	s := newSite(t, func(o *api.Options) { o.Auth, o.Now = a, clock })
	body := fmt.Sprintf(`{"name":"x","scopes":["checkout"],"expires":%q}`, now.Add(time.Hour).UTC().Format(time.RFC3339))
	var made tokenAnswer
	check(t, json.Unmarshal([]byte(s.want(s.bob, "POST", "/latest/user/tokens", body, 200, "")), &made))
	if made.Expires == nil {
		t.Errorf("%+v", made)
	}
	s.want(made.Token, "GET", "/latest/whoami", "", 200, "")
	mu.Lock()
	now = now.Add(2 * time.Hour)
	mu.Unlock()
	s.want(made.Token, "GET", "/latest/whoami", "", 401, unauthorized)
	s.want(s.bob, "GET", "/latest/whoami", "", 200, "")
}

func TestAnAccountHasBoundedlyManyTokens(t *testing.T) {
	s := newSite(t)
	for i := range 100 {
		check(t, s.store.CreateToken(t.Context(), user.Token{ID: node.ID(fmt.Sprintf("65f0000000000000000001%02x", i)), User: bobID, Name: "x", Created: time.Now()}))
	}
	s.want(s.bob, "POST", "/latest/user/tokens", `{"name":"x","scopes":["checkout"]}`, 409, "")
}
