package config

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/effiscale/effiscale/knowledge"
)

// maxFile bounds the configuration file; a full one has about 8 KiB.
const maxFile = 1 << 20

// Load reads the file at path, "" for none, and the variables of env
// ("NAME=value", as os.Environ gives them), in this order over the defaults.
// The error is Errors with all problems, or the reason why the file cannot be read; the
// Config must then not be used.
func Load(path string, env []string) (Config, error) {
	var data []byte
	if path != "" {
		var err error
		if data, err = read(path); err != nil {
			return Config{}, fmt.Errorf("cannot read configuration %s: %w", printable(path), err)
		}
	}
	return decode(path, data, env)
}

func read(path string) ([]byte, error) {
	// Opening a pipe would block, so check the type first.
	if info, err := os.Stat(path); err != nil {
		return nil, errors.Unwrap(err)
	} else if !info.Mode().IsRegular() {
		return nil, errors.New("not a regular file")
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, errors.Unwrap(err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(data) > maxFile {
		err = errors.New("larger than 1 MiB")
	}
	return data, err
}

// loader gathers values and problems of one Load.
type loader struct {
	config   Config
	data     []byte
	bindings []binding        // of config
	places   map[string]entry // what the file set, by joined path
	tables   map[string]entry // headers of the file, by joined path
	refused  map[string]bool  // tables that were reported: not again for each key
	problems Errors
	unshown  int   // problems beyond maxReported
	lines    []int // where each line of data begins
}

func decode(file string, data []byte, env []string) (Config, error) {
	l := &loader{
		config: Defaults(), data: data,
		places: map[string]entry{}, tables: map[string]entry{}, refused: map[string]bool{},
	}
	l.config.File = file
	l.lines = lineStarts(data)
	l.bindings = l.config.bindings()
	entries, faults := parse(data)
	for _, f := range faults {
		l.malformed(f)
	}
	l.refused[brokenTable] = len(faults) > 0
	for _, e := range entries {
		l.enter(e)
	}
	if len(l.problems) == 0 {
		for _, f := range conformance(data) {
			l.malformed(f)
		}
	}
	l.environment(env)
	if len(l.problems) == 0 {
		l.crossCheck()
	}
	if len(l.problems) > 0 {
		return Config{}, l.sorted()
	}
	return l.config, nil
}

// sorted puts the problems in the order of the file.
func (l *loader) sorted() Errors {
	slices.SortStableFunc(l.problems, func(a, b Problem) int {
		if a.Origin.Source != b.Origin.Source {
			return int(a.Origin.Source) - int(b.Origin.Source)
		}
		return a.Origin.Line - b.Origin.Line
	})
	if l.unshown > 0 {
		l.problems = append(l.problems, Problem{Message: fmt.Sprintf("%d more problems are not shown", l.unshown)})
	}
	return l.problems
}

func lineStarts(data []byte) []int {
	starts := []int{0}
	for i, c := range data {
		if c == '\n' {
			starts = append(starts, i+1)
		}
	}
	return starts
}

// line is the number of the line that holds a byte, from 0, and its stretch.
func (l *loader) line(at int) (number, from, to int) {
	number, found := slices.BinarySearch(l.lines, at)
	if !found {
		number--
	}
	from, to = l.lines[number], len(l.data)
	if number+1 < len(l.lines) {
		to = l.lines[number+1] - 1
	}
	return number, from, to
}

// origin is the place in the file, for messages and for people.
func (l *loader) origin(at place) Origin {
	number, from, _ := l.line(at.from)
	return Origin{Source: FromFile, File: l.config.File, Line: number + 1, Column: at.from - from + 1}
}

// report adds a problem; one of the file gets its line as an excerpt.
func (l *loader) report(p Problem, at place) {
	if len(l.problems) >= maxReported {
		l.unshown++
		return
	}
	if p.Origin.Source == FromFile {
		_, from, to := l.line(at.from)
		p.Excerpt, p.Mark, p.Width = excerpt(string(l.data[from:to]), at.from-from, min(at.to, to)-from)
	}
	l.problems = append(l.problems, p)
}

// malformed reports a fault of form. Most of them are a missing pair of quotes.
func (l *loader) malformed(f fault) {
	message := "cannot be read as TOML: " + f.message
	_, from, to := l.line(f.at.from)
	_, value, assigned := strings.Cut(string(l.data[from:to]), "=")
	if assigned && !strings.ContainsAny(value, "\"'[{") && f.at.from > to-len(value) {
		message += "; words, sizes, durations and shares need quotes"
	}
	l.report(Problem{Origin: l.origin(f.at), Message: message}, f.at)
}

// enter puts one entry of the file into the configuration.
func (l *loader) enter(e entry) {
	path := join(e.path)
	for i := range e.path {
		if l.refused[join(e.path[:i+1])] {
			return
		}
	}
	if e.table {
		l.enterTable(e, path)
		return
	}
	if first, ok := l.places[path]; ok {
		l.report(Problem{
			Origin: l.origin(e.key), Key: dotted(e.path),
			Message: fmt.Sprintf("is set twice; first in line %d", l.origin(first.at).Line),
		}, e.key)
		return
	}
	l.places[path] = e
	b, commit, message := l.find(e.path)
	if message != "" {
		l.report(Problem{Origin: l.origin(e.key), Key: dotted(e.path), Message: message}, e.key)
		l.refused[e.path[0]] = !slices.Contains(sections(), e.path[0])
		return
	}
	origin := l.origin(e.at)
	if err := b.set(e.value); err != nil {
		written := shorten(string(l.data[e.at.from:e.at.to]))
		l.report(Problem{
			Origin: origin, Key: dotted(e.path), Value: written, Message: err.Error(), Allowed: b.allowed(),
		}, e.at)
		return
	}
	commit(origin)
}

// enterTable checks a header. A problem of a section is reported once, there.
func (l *loader) enterTable(e entry, path string) {
	message := checkTable(e)
	if first, ok := l.tables[path]; ok && !e.list {
		message = fmt.Sprintf("is opened twice; first in line %d", l.origin(first.key).Line)
	} else if message != "" {
		l.refused[path] = true
		l.refused[e.path[0]] = !slices.Contains(sections(), e.path[0])
	}
	l.tables[path] = e
	if message != "" {
		l.report(Problem{Origin: l.origin(e.key), Key: dotted(e.path), Message: message}, e.key)
	}
}

func join(path []string) string { return strings.Join(path, "\x00") }

func checkTable(e entry) string {
	switch section := e.path[0]; {
	case !slices.Contains(sections(), section):
		return unknownSection(section)
	case e.list:
		return "is a list of tables; write one pair of brackets"
	case section == "class" && len(e.path) == 2:
		return checkClass(e.path[1])
	case section == "service" && len(e.path) == 2:
		return checkService(e.path[1])
	case section == "class" || section == "service":
		if len(e.path) > 2 {
			return "is nested too deep; write [" + section + ".NAME]"
		}
	case len(e.path) > 1:
		return "is nested too deep; [" + section + "] has no tables in it"
	}
	return ""
}

func checkClass(name string) string {
	if _, err := knowledge.ParseClass(name); err != nil {
		words := classWords()
		message := "is not a class" + didYouMean(name, words)
		return message + joinAllowed(message, strings.Join(words, ", "))
	}
	return ""
}

func checkService(name string) string {
	if !knowledge.ValidService(knowledge.ServiceKey(name)) {
		return "is not a service's name; allowed: " + nameWords + ", or PROJECT/SERVICE of Compose"
	}
	return ""
}

// find is the place for a key, or the problem of the key. commit notes where
// a value that was set came from.
func (l *loader) find(path []string) (b binding, commit func(Origin), message string) {
	section := path[0]
	switch {
	case len(path) == 1:
		return b, nil, l.misplaced(path[0])
	case !slices.Contains(sections(), section):
		return b, nil, unknownSection(section)
	case section == "class" || section == "service":
		return l.findPatch(path)
	}
	var names []string
	for _, known := range l.bindings {
		if known.section == section {
			names = append(names, known.name)
		}
		if len(path) == 2 && known.section == section && known.name == path[1] {
			return known, func(o Origin) { l.config.Origins[known.path()] = o }, ""
		}
	}
	return b, nil, l.unknownKey(strings.Join(path[1:], "."), section, names)
}

// findPatch is find for [class.NAME] and [service."NAME"]: the value is tried on
// a policy of its own, and kept as text.
func (l *loader) findPatch(path []string) (b binding, commit func(Origin), message string) {
	section, name := path[0], path[1]
	var scratch knowledge.Policy
	known := knobs(&scratch)
	check := checkClass
	if section == "service" {
		known, check = serviceKnobs(&scratch), checkService
	}
	if message := check(name); message != "" {
		return b, nil, message
	}
	var names []string
	for _, k := range known {
		names = append(names, k.name)
		if len(path) == 3 && k.name == path[2] {
			return k, func(o Origin) { l.patch(section, name, Setting{k.name, k.text(), o}) }, ""
		}
	}
	if len(path) < 3 {
		return b, nil, "is a value where a table is needed; write [" + section + "." + name + "]"
	}
	return b, nil, l.unknownKey(strings.Join(path[2:], "."), section+"."+name, names)
}

func (l *loader) patch(section, name string, s Setting) {
	if section == "service" {
		key := knowledge.ServiceKey(name)
		l.config.Services[key] = l.config.Services[key].with(s)
		return
	}
	class, _ := knowledge.ParseClass(name)
	l.config.Classes[class] = l.config.Classes[class].with(s)
}

func sections() []string {
	return []string{"node", "docker", "api", "cluster", "monitor", "policy", "class", "service", "limits", "store", "log"}
}

func classWords() []string {
	var words []string
	for _, c := range knowledge.Classes() {
		words = append(words, c.String())
	}
	return words
}

func unknownSection(name string) string {
	message := "is not a section" + didYouMean(name, sections())
	return message + joinAllowed(message, strings.Join(sections(), ", "))
}

// misplaced explains a key before the first section.
func (l *loader) misplaced(name string) string {
	for _, b := range l.bindings {
		if b.name == name {
			return "stands outside a section; it belongs under [" + b.section + "]"
		}
	}
	if slices.Contains(sections(), name) {
		return "is a section; write [" + name + "]"
	}
	var names []string
	for _, b := range l.bindings {
		names = append(names, b.name)
	}
	return "stands outside a section and is not a key" + didYouMean(name, names)
}

// unknownKey looks for the key that was meant: a near one here, then the same
// one in another section.
func (l *loader) unknownKey(name, section string, here []string) string {
	if s := Suggest(name, here); s != "" {
		return "is not a key; did you mean " + quote(s) + "?"
	}
	for _, b := range l.bindings {
		if b.name == name && b.section != section {
			return "is not a key here; it belongs under [" + b.section + "]"
		}
	}
	return "is not a key; allowed in [" + section + "]: " + strings.Join(here, ", ")
}

// dotted writes a path as TOML would.
func dotted(path []string) string {
	parts := make([]string, len(path))
	for i, p := range path {
		if parts[i] = p; !knowledge.ValidName(p) || strings.Contains(p, ".") {
			parts[i] = show(p)
		}
	}
	return strings.Join(parts, ".")
}

// shorten is a value as it was written, fit for one line.
func shorten(s string) string {
	if first, _, cut := strings.Cut(s, "\n"); cut {
		s = first + " …"
	}
	if len(s) > maxShown {
		return printable(s[:maxShown]) + fmt.Sprintf("… (%d bytes)", len(s))
	}
	return printable(s)
}
