package api

import (
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxName bounds every name that a client sends. Docker sets no bound; 128 is
// what an image tag may have.
const maxName = 128

// docker's RestrictedNamePattern: a name has two characters at least.
var namePattern = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]{1,127}$`)

// CheckRef checks the form of a container reference: a full id or a prefix of
// at least 12 hex digits, or an exact name. A shorter run of hex digits can only
// be a name. The error is an *Error of KindBadRequest.
func CheckRef(s string) error {
	if namePattern.MatchString(s) {
		return nil // 12 to 64 hex digits have this form too
	}
	return Errorf(KindBadRequest, "%s is not a container: use its name, or 12 to 64 hex digits of its id", quote(s))
}

// SplitHost parts HOST/NAME at the first slash; without one there is no host.
func SplitHost(s string) (host, name string) {
	if host, name, ok := strings.Cut(s, "/"); ok {
		return host, name
	}
	return "", s
}

// CheckPlace checks the form of a container reference with or without a host: NAME,
// HOST/NAME. The error is an *Error of KindBadRequest.
func CheckPlace(s string) error {
	host, name := SplitHost(s)
	if project, service := SplitHost(name); project != "" && checkName(project) == nil {
		name = service // HOST/PROJECT/SERVICE
	}
	if len(name) < len(s) && (checkName(host) != nil || host == "." || host == "..") {
		return Errorf(KindBadRequest, "%s is not a container: the part before the slash must be the name of a host", quote(s))
	}
	return CheckRef(name)
}

// checkPlace does so for what may be a service, too: a label may put a slash into
// its name.
func checkPlace(s string) error {
	if host, name := SplitHost(s); host != "" && checkName(host) == nil {
		return checkName(name)
	}
	return checkName(s)
}

// checkName checks the form of what may name a container or a service; a label
// may call a service anything that can be printed.
func checkName(s string) error {
	hidden := func(r rune) bool { return !unicode.IsPrint(r) }
	if s == "" || len(s) > maxName || !utf8.ValidString(s) || strings.ContainsFunc(s, hidden) {
		return Errorf(KindBadRequest, "%s is not a name of a container or a service: 1 to %d printable characters",
			quote(s), maxName)
	}
	return nil
}

// quote makes untrusted text safe and short for a message.
func quote(s string) string {
	const most = 64
	cut := ""
	if len(s) > most {
		s, cut = s[:most], "…"
	}
	return strings.ToValidUTF8(`"`+strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) || r == '"' {
			return '?'
		}
		return r
	}, s)+cut+`"`, "?")
}
