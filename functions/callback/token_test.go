package callback_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
)

// token is a JWT with these claims, as KernelCI's own tools make it.
func (s *service) token(claims string) string { return s.signed(claims, "a secret of enough bytes") }

func (s *service) signed(claims, secret string) string {
	s.t.Helper()
	encode := base64.RawURLEncoding.EncodeToString
	text := encode([]byte(`{"alg":"HS256","typ":"JWT"}`)) + "." + encode([]byte(claims))
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(text))
	return text + "." + encode(mac.Sum(nil))
}
