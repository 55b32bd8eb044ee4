package config

import (
	"slices"
	"strings"

	"github.com/effiscale/effiscale/knowledge"
)

// environment puts EFFISCALE_<SECTION>_<KEY> variables over the file. Classes
// have theirs (EFFISCALE_CLASS_JVM_SHRINK_AFTER); services do not, for a variable
// cannot spell every service's name.
func (l *loader) environment(env []string) {
	targets := l.envTargets()
	names := make([]string, 0, len(targets))
	for name := range targets {
		names = append(names, name)
	}
	slices.Sort(names)
	set := slices.Clone(env)
	slices.Sort(set)
	for _, pair := range set {
		name, value, _ := strings.Cut(pair, "=")
		if !strings.HasPrefix(name, "EFFISCALE_") {
			continue
		}
		origin := Origin{Source: FromEnv, Env: name}
		path, ok := targets[name]
		if !ok {
			if message := strangeVariable(name, names); message != "" {
				l.report(Problem{Origin: origin, Message: message}, place{})
			}
			continue
		}
		b, commit, _ := l.find(path)
		if err := b.set(bare(value)); err != nil {
			l.report(Problem{
				Origin: origin, Key: dotted(path), Value: show(value), Message: err.Error(), Allowed: b.allowed(),
			}, place{})
			continue
		}
		commit(origin)
	}
}

// envTargets maps each variable to the path of its key.
func (l *loader) envTargets() map[string][]string {
	targets := map[string][]string{}
	for _, b := range l.bindings {
		targets[b.env()] = []string{b.section, b.name}
	}
	var scratch knowledge.Policy
	for _, class := range classWords() {
		for _, k := range knobs(&scratch) {
			targets[envName("class", class, k.name)] = []string{"class", class, k.name}
		}
	}
	return targets
}

// strangeVariable explains a variable that sets no key. One that is neither
// near a known name nor in a section's name space is of another program.
func strangeVariable(name string, known []string) string {
	if s := Suggest(name, known); s != "" {
		return "sets nothing; did you mean " + s + "?"
	}
	section, _, _ := strings.Cut(strings.TrimPrefix(name, "EFFISCALE_"), "_")
	section = strings.ToLower(section)
	switch {
	case section == "service":
		return `sets nothing: a service is configured in the file, under [service."NAME"], or by labels`
	case slices.Contains(sections(), section):
		return "sets nothing: [" + section + "] has no such key"
	}
	return ""
}
