package relay

import (
	"fmt"
	"net/http"
	"strings"
	"unicode"
)

// Error is a refusal. A handler returns one to choose the status;
// the caller gets the same back.
type Error struct {
	Status int // 400 to 599
	Text   string
}

func (e *Error) Error() string {
	if e.Text == "" {
		return fmt.Sprintf("%d %s", e.Status, http.StatusText(e.Status))
	}
	return fmt.Sprintf("%d %s: %s", e.Status, http.StatusText(e.Status), e.Text)
}

// maxText bounds the text of an error on the wire.
const maxText = 256

// plain makes a text fit for a log and a terminal: bounded, printable, one line.
func plain(s string) string {
	if len(s) > maxText {
		s = s[:maxText]
	}
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) || r == unicode.ReplacementChar {
			return '?'
		}
		return r
	}, s)
}

const (
	alive     = "alive"
	maxMethod = 64
)

func validMethod(s string) bool {
	if s == "" || len(s) > maxMethod {
		return false
	}
	for _, c := range []byte(s) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' {
			return false
		}
	}
	return true
}
