package api

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
)

// Role is what a caller may do; each includes those before it.
type Role uint8

// The roles.
const (
	RoleNone Role = iota
	RoleRead
	RoleOperate
	RoleAdmin
)

var roleNames = map[string]Role{"read": RoleRead, "operate": RoleOperate, "admin": RoleAdmin}

func (r Role) String() string {
	for name, v := range roleNames {
		if v == r {
			return name
		}
	}
	return "none"
}

// token is one line of the tokens file.
type token struct {
	role Role
	sum  [sha256.Size]byte
	name string
}

const (
	maxTokenFile = 64 << 10
	maxTokens    = 256
)

const tokenHint = "a line is role:sha256[:name] with role read, operate or admin; make one with: " +
	`T=$(openssl rand -hex 32); echo "operate:$(printf %s "$T" | sha256sum | cut -d' ' -f1):me"`

// readTokens reads the tokens file: one role:sha256hex[:name] a line, # starts
// a comment. Only hashes are kept, in the file and here.
func readTokens(path string) ([]token, error) {
	if err := regular(path); err != nil {
		return nil, fmt.Errorf("cannot read api.tokens_file: %w", err)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("cannot read api.tokens_file: %w", err)
	}
	defer f.Close()
	if st, err := f.Stat(); err != nil || st.Mode().Perm()&0o022 != 0 {
		return nil, fmt.Errorf("cannot use api.tokens_file %s: others could add a token to it: chmod 600 %s", path, path)
	}
	b, err := io.ReadAll(io.LimitReader(f, maxTokenFile+1))
	if err != nil {
		return nil, fmt.Errorf("cannot read api.tokens_file %s: %w", path, err)
	}
	if len(b) > maxTokenFile {
		return nil, fmt.Errorf("cannot use api.tokens_file %s: larger than %d bytes", path, maxTokenFile)
	}
	return parseTokens(path, string(b))
}

func parseTokens(path, text string) ([]token, error) {
	var all []token
	for i, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		t, ok := parseToken(line)
		if !ok {
			return nil, fmt.Errorf("cannot use api.tokens_file %s:%d: %s", path, i+1, tokenHint)
		}
		if all = append(all, t); len(all) > maxTokens {
			return nil, fmt.Errorf("cannot use api.tokens_file %s: more than %d tokens", path, maxTokens)
		}
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("cannot use api.tokens_file %s: it holds no token; %s", path, tokenHint)
	}
	return all, nil
}

func parseToken(line string) (token, bool) {
	parts := strings.SplitN(line, ":", 3)
	if len(parts) < 2 {
		return token{}, false
	}
	t := token{role: roleNames[parts[0]]}
	sum, err := hex.DecodeString(parts[1])
	if t.role == RoleNone || err != nil || len(sum) != sha256.Size {
		return token{}, false
	}
	copy(t.sum[:], sum)
	if len(parts) == 3 {
		t.name = parts[2]
		if checkName(t.name) != nil {
			return token{}, false
		}
	}
	return t, true
}

// bearer finds the token of a request. It compares with every known hash, so
// that the duration reveals nothing.
func bearer(tokens []token, r *http.Request) (found token, presented bool) {
	scheme, secret, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if secret = strings.TrimSpace(secret); !strings.EqualFold(scheme, "bearer") || secret == "" {
		return token{}, false
	}
	sum := sha256.Sum256([]byte(secret))
	for _, t := range tokens {
		if subtle.ConstantTimeCompare(sum[:], t.sum[:]) == 1 {
			found = t
		}
	}
	return found, true
}

// roleFor is the role that a call needs. A decision is only an answer.
func roleFor(r *http.Request) Role {
	switch {
	case r.Method == http.MethodGet, r.Method == http.MethodHead, r.URL.Path == "/decision":
		return RoleRead
	case r.URL.Path == "/register":
		return RoleAdmin
	}
	return RoleOperate
}
