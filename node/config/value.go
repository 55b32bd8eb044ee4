package config

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/effiscale/effiscale/knowledge"
)

// shape is the form in which a value was written.
type shape uint8

const (
	shapeBare    shape = iota // environment and labels: text without a type
	shapeString               // a TOML string
	shapeInteger              // a TOML integer
	shapeFloat                // a TOML float
	shapeBool                 // a TOML boolean
	shapeList                 // a TOML array
	shapeOther                // a TOML date, table, …
)

var shapeWords = [...]string{"text", "a string", "an integer", "a number", "a boolean", "a list", "a date or a table"}

// literal is a value as it was written.
type literal struct {
	shape shape
	text  string    // decoded; numbers as written
	list  []literal // with shapeList
}

func bare(s string) literal { return literal{shape: shapeBare, text: s} }

func (l literal) isText() bool { return l.shape == shapeBare || l.shape == shapeString }

// maxText bounds the text of any value: paths are the longest, PATH_MAX is 4096.
const maxText = 1024

// number reads a finite number. Text must be plain decimal digits: no sign, no
// exponent, no digits of other scripts, which ParseFloat would partly take.
func (l literal) number() (float64, error) {
	switch l.shape {
	case shapeInteger:
		v, err := strconv.ParseInt(l.text, 0, 64)
		if err != nil {
			return 0, errors.New("is an integer beyond 64 bits")
		}
		return float64(v), nil
	case shapeFloat:
		v, err := strconv.ParseFloat(strings.ReplaceAll(l.text, "_", ""), 64)
		if err != nil || math.IsNaN(v) || math.IsInf(v, 0) {
			return 0, errors.New("is not a finite number")
		}
		return v, nil
	case shapeBare, shapeString:
		return parseNumber(l.text)
	}
	return 0, fmt.Errorf("is %s, not a number", shapeWords[l.shape])
}

// parseNumber reads "12" or "0.25" and nothing else.
func parseNumber(s string) (float64, error) {
	whole, part, dotted := strings.Cut(s, ".")
	if !isDigits(whole) || dotted && !isDigits(part) || len(s) > 20 {
		return 0, errors.New("is not a plain number")
	}
	return strconv.ParseFloat(s, 64)
}

func isDigits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}

// share reads "70%" or 0.7 as 0.7.
func (l literal) share() (float64, error) {
	if digits, ok := strings.CutSuffix(l.text, "%"); ok && l.isText() {
		v, err := parseNumber(digits)
		return v / 100, err
	}
	return l.number()
}

// sizeUnits are binary, as Docker's own "128m" and "1g" are.
var sizeUnits = map[string]knowledge.Bytes{
	"": 1, "b": 1,
	"k": knowledge.KiB, "kb": knowledge.KiB, "kib": knowledge.KiB,
	"m": knowledge.MiB, "mb": knowledge.MiB, "mib": knowledge.MiB,
	"g": knowledge.GiB, "gb": knowledge.GiB, "gib": knowledge.GiB,
	"t": knowledge.TiB, "tb": knowledge.TiB, "tib": knowledge.TiB,
}

// size reads "128MiB", "1.5g" or plain bytes.
func (l literal) size() (knowledge.Bytes, error) {
	number, unit := l, knowledge.Bytes(1)
	if l.isText() {
		digits := strings.TrimRight(l.text, "kKmMgGtTiIbB")
		u, ok := sizeUnits[strings.ToLower(l.text[len(digits):])]
		if !ok {
			return 0, errors.New("has an unknown unit")
		}
		number, unit = bare(strings.TrimSuffix(digits, " ")), u
	}
	v, err := number.number()
	if err != nil {
		return 0, err
	}
	v *= float64(unit)
	// The bounds of the key refuse what the type could not hold.
	return knowledge.Bytes(min(max(v, -1), float64(knowledge.MaxBytes+1))), nil
}

// span reads a duration with its unit: "100ms", "1h30m".
func (l literal) span() (time.Duration, error) {
	if !l.isText() {
		return 0, errors.New("has no unit")
	}
	if parseable := len(l.text) <= 32 && strings.Trim(l.text, "0123456789.hmnsuµ") == ""; !parseable {
		return 0, errors.New("is not a duration")
	}
	if isDigits(l.text) {
		return 0, errors.New("has no unit")
	}
	d, err := time.ParseDuration(l.text)
	if err != nil {
		return 0, errors.New("is not a duration")
	}
	return d, nil
}

// The inverse: text that the functions above read as the same value.

func formatNumber(v float64) string { return strconv.FormatFloat(v, 'f', -1, 64) }

func formatShare(v float64) string { return strconv.FormatFloat(v*100, 'g', 10, 64) + "%" }

func formatSize(b knowledge.Bytes) string {
	for _, u := range [...]struct {
		size knowledge.Bytes
		name string
	}{{knowledge.TiB, "TiB"}, {knowledge.GiB, "GiB"}, {knowledge.MiB, "MiB"}, {knowledge.KiB, "KiB"}} {
		if b != 0 && b%u.size == 0 {
			return strconv.FormatInt(int64(b/u.size), 10) + u.name
		}
	}
	return strconv.FormatInt(int64(b), 10) + "B"
}

// quote writes a TOML basic string.
func quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r < 0x20 || r >= 0x7f && r < 0xa0:
			fmt.Fprintf(&b, `\u%04X`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}
