package config

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/effiscale/effiscale/knowledge"
)

// field is one value of the configuration: where it is stored, how it is read, and the
// allowed values.
type field interface {
	// set reads and checks; its error is a predicate ("is too small").
	set(literal) error
	// text is the value as the environment or a label would carry it.
	text() string
	// kind is the type, allowed describes the valid values.
	kind() string
	allowed() string
}

var (
	errSmall = errors.New("is too small")
	errLarge = errors.New("is too large")
)

func within[T ~int | ~int64 | ~float64](v, least, most T) error {
	switch {
	case v < least:
		return errSmall
	case v > most:
		return errLarge
	}
	return nil
}

// shares are parts of a whole, 0..1; none, if not "", is the word for 0.
type shareField struct {
	p           *float64
	least, most float64
	none        string
}

func (f shareField) set(l literal) error {
	if f.none != "" && l.isText() && l.text == f.none {
		*f.p = 0
		return nil
	}
	v, err := l.share()
	if err == nil {
		err = within(v, f.least, f.most)
	}
	if err == nil {
		*f.p = v
	}
	return err
}

func (f shareField) text() string {
	if f.none != "" && *f.p == 0 {
		return f.none
	}
	return formatShare(*f.p)
}
func (f shareField) kind() string { return "share" }
func (f shareField) allowed() string {
	return orNone(fmt.Sprintf("%s to %s", formatShare(f.least), formatShare(f.most)), f.none)
}

func orNone(s, none string) string {
	if none == "" {
		return s
	}
	return s + ", or " + quote(none)
}

// factorField is a plain number.
type factorField struct {
	p           *float64
	least, most float64
}

func (f factorField) set(l literal) error {
	v, err := l.number()
	if err == nil {
		err = within(v, f.least, f.most)
	}
	if err == nil {
		*f.p = v
	}
	return err
}
func (f factorField) text() string { return formatNumber(*f.p) }
func (f factorField) kind() string { return "number" }
func (f factorField) allowed() string {
	return formatNumber(f.least) + " to " + formatNumber(f.most)
}

// countField is a whole number.
type countField struct {
	p           *int
	least, most int
}

func (f countField) set(l literal) error {
	if l.shape == shapeFloat {
		return errors.New("is not a whole number")
	}
	v, err := l.number()
	switch {
	case err != nil:
		return err
	case v != float64(int64(v)):
		return errors.New("is not a whole number")
	}
	if err := within(v, float64(f.least), float64(f.most)); err != nil {
		return err
	}
	*f.p = int(v)
	return nil
}
func (f countField) text() string    { return strconv.Itoa(*f.p) }
func (f countField) kind() string    { return "count" }
func (f countField) allowed() string { return fmt.Sprintf("%d to %d", f.least, f.most) }

// coresField is CPU in cores; none, if not "", is the word for no bound.
type coresField struct {
	p           *knowledge.NanoCPU
	least, most knowledge.NanoCPU
	none        string
}

func (f coresField) set(l literal) error {
	if f.none != "" && l.isText() && l.text == f.none {
		*f.p = 0
		return nil
	}
	v, err := l.number()
	if err == nil {
		err = within(v, f.least.Cores(), f.most.Cores())
	}
	if err == nil {
		*f.p = knowledge.FromCores(v)
	}
	return err
}

func (f coresField) text() string {
	if f.none != "" && *f.p == 0 {
		return f.none
	}
	return formatNumber(f.p.Cores())
}
func (f coresField) kind() string { return "cores" }
func (f coresField) allowed() string {
	return orNone(formatNumber(f.least.Cores())+" to "+formatNumber(f.most.Cores())+" cores", f.none)
}

// sizeField is memory or disk; none, if not "", is the word for no bound.
type sizeField struct {
	p           *knowledge.Bytes
	least, most knowledge.Bytes
	none        string
}

func (f sizeField) set(l literal) error {
	if f.none != "" && l.isText() && l.text == f.none {
		*f.p = 0
		return nil
	}
	v, err := l.size()
	if err == nil {
		err = within(v, f.least, f.most)
	}
	if err == nil {
		*f.p = v
	}
	return err
}

func (f sizeField) text() string {
	if f.none != "" && *f.p == 0 {
		return f.none
	}
	return formatSize(*f.p)
}
func (f sizeField) kind() string { return "size" }
func (f sizeField) allowed() string {
	return orNone(formatSize(f.least)+" to "+formatSize(f.most), f.none)
}

// spanField is a duration.
type spanField struct {
	p           *time.Duration
	least, most time.Duration
}

func (f spanField) set(l literal) error {
	v, err := l.span()
	if err == nil {
		err = within(v, f.least, f.most)
	}
	if err == nil {
		*f.p = v
	}
	return err
}
func (f spanField) text() string    { return knowledge.Span(*f.p) }
func (f spanField) kind() string    { return "duration" }
func (f spanField) allowed() string { return knowledge.Span(f.least) + " to " + knowledge.Span(f.most) }

// boolField is true or false.
type boolField struct{ p *bool }

func (f boolField) set(l literal) error {
	if l.shape != shapeBool && l.shape != shapeBare || l.text != "true" && l.text != "false" {
		return errors.New("is neither true nor false")
	}
	*f.p = l.text == "true"
	return nil
}
func (f boolField) text() string    { return strconv.FormatBool(*f.p) }
func (f boolField) kind() string    { return "boolean" }
func (f boolField) allowed() string { return "true, false" }

// wordField is one of a few strings. get and put translate to the value's type.
type wordField struct {
	words []string
	get   func() string
	put   func(string)
}

// enumField is a wordField over an enumeration of package knowledge.
func enumField[T interface {
	~uint8
	String() string
}](p *T, parse func(string) (T, error), values ...T) wordField {
	words := make([]string, len(values))
	for i, v := range values {
		words[i] = v.String()
	}
	return wordField{words, func() string { return (*p).String() }, func(s string) { *p, _ = parse(s) }}
}

func choiceField(p *string, words ...string) wordField {
	return wordField{words, func() string { return *p }, func(s string) { *p = s }}
}

func (f wordField) set(l literal) error {
	if !l.isText() {
		return fmt.Errorf("is %s, not a string", shapeWords[l.shape])
	}
	if !slices.Contains(f.words, l.text) {
		return fmt.Errorf("is not an allowed value%s", didYouMean(l.text, f.words))
	}
	f.put(l.text)
	return nil
}
func (f wordField) text() string    { return f.get() }
func (f wordField) kind() string    { return "word" }
func (f wordField) allowed() string { return strings.Join(f.words, ", ") }

// textField is free text with a check; its allowed text describes the valid values.
type textField struct {
	p      *string
	check  func(string) error
	phrase string
}

func (f textField) set(l literal) error {
	if !l.isText() {
		return fmt.Errorf("is %s, not a string", shapeWords[l.shape])
	}
	if len(l.text) > maxText {
		return errLarge
	}
	if err := f.check(l.text); err != nil {
		return err
	}
	*f.p = l.text
	return nil
}
func (f textField) text() string    { return *f.p }
func (f textField) kind() string    { return "string" }
func (f textField) allowed() string { return f.phrase }

// listField is a list of texts; the environment separates them by commas.
type listField struct {
	p      *[]string
	check  func(string) error
	most   int
	phrase string
}

func (f listField) set(l literal) error {
	items := l.list
	switch {
	case l.shape == shapeBare:
		for s := range strings.SplitSeq(l.text, ",") {
			if s = strings.TrimSpace(s); s != "" {
				items = append(items, bare(s))
			}
		}
	case l.shape != shapeList:
		return fmt.Errorf("is %s, not a list", shapeWords[l.shape])
	}
	if len(items) > f.most {
		return fmt.Errorf("has %d entries, more than %d", len(items), f.most)
	}
	var out []string
	for _, item := range items {
		if !item.isText() {
			return fmt.Errorf("holds %s, not only strings", shapeWords[item.shape])
		}
		if err := f.check(item.text); err != nil {
			return fmt.Errorf("holds %s, which %w", show(item.text), err)
		}
		out = append(out, item.text)
	}
	*f.p = out
	return nil
}
func (f listField) text() string    { return strings.Join(*f.p, ",") }
func (f listField) kind() string    { return "list" }
func (f listField) allowed() string { return f.phrase }

// tomlText writes the value of a field as TOML.
func tomlText(f field) string {
	switch f := f.(type) {
	case listField:
		quoted := make([]string, len(*f.p))
		for i, s := range *f.p {
			quoted[i] = quote(s)
		}
		return "[" + strings.Join(quoted, ", ") + "]"
	case factorField, countField, boolField:
		return f.text()
	case coresField:
		if f.none == "" || *f.p != 0 {
			return f.text()
		}
	}
	return quote(f.text())
}
