package config

import (
	"flag"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/effiscale/effiscale/knowledge"
)

var update = flag.Bool("update", false, "write config.example.toml and the golden files")

const exampleFile = "../../config.example.toml"

// TestExampleFile proves that config.example.toml is what the keys say, and
// that loading it changes nothing: every value in it is the default.
func TestExampleFile(t *testing.T) {
	want := example()
	if *update {
		if err := os.WriteFile(exampleFile, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(exampleFile)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("%s is not what the keys say; run: go test ./node/config -update", exampleFile)
	}
	c, err := Load(exampleFile, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range Keys() {
		if _, set := c.Origins[k.Section+"."+k.Name]; k.Env != "" && !set && !unused(k.Name) {
			t.Errorf("%s.%s is missing from the example", k.Section, k.Name)
		}
	}
	if keys := c.Unused(); len(keys) > 0 { // the daemon warns of them
		t.Errorf("the example has keys without effect: %q", keys)
	}
	if got, want := withoutOrigins(c), withoutOrigins(Defaults()); !reflect.DeepEqual(got, want) {
		t.Errorf("the example is not the defaults:\n got %+v\nwant %+v", got, want)
	}
}

// TestExampleComments proves that the commented examples are right as well.
func TestExampleComments(t *testing.T) {
	var lines []string
	_, sample, _ := strings.Cut(serviceSample, "#\n")
	for line := range strings.Lines(sample) {
		lines = append(lines, strings.TrimPrefix(strings.TrimPrefix(line, "#"), " "))
	}
	c, err := decode("sample", []byte(strings.Join(lines, "")), nil)
	if err != nil {
		t.Fatal(err)
	}
	p := c.PolicyFor(knowledge.Container{Name: "shop-web", Labels: map[string]string{"effiscale.enable": "true"}})
	if p.Class != knowledge.ClassLatency || p.CPU.Max != 4*knowledge.OneCPU || p.Memory.Max != 2*knowledge.GiB ||
		p.CPUSource != "service" {
		t.Errorf("the sample gives %+v", p)
	}
}

func withoutOrigins(c Config) Config {
	c.File, c.Origins = "", nil
	bare := func(p Patch) Patch {
		var out Patch
		for _, s := range p {
			s.Origin = Origin{}
			out = append(out, s)
		}
		return out
	}
	classes := map[knowledge.Class]Patch{}
	for k, p := range c.Classes {
		classes[k] = bare(p)
	}
	services := map[knowledge.ServiceKey]Patch{}
	for k, p := range c.Services {
		services[k] = bare(p)
	}
	c.Classes, c.Services = classes, services
	return c
}

const exampleHead = `# EffiScale: every key with its default value, which applies without a file too.
# Check a changed file with "effiscale validate FILE".
#
# Sizes      "128MiB", "1g", or plain bytes; units are binary, as Docker's are
# Durations  "100ms", "30s", "1h30m"
# Shares     "70%" or 0.7
# Cores      0.25
#
# A variable EFFISCALE_<SECTION>_<KEY> overrides this file: EFFISCALE_NODE_MODE=observe.
# A label overrides both, for its container; it is named with the key.
# Keys marked (restart) are read when the daemon starts, the others on reload too.
`

const classHead = `
# The presets of effiscale.class. They may have any key of [policy]; keys that are
# not set come from [policy]. The class "serving" is [policy] itself.
`

const serviceSample = `# Single services, named by the label effiscale.service, else Compose's
# project/service, else the Swarm service, else the container's name. They may have
# any key of [policy], and class and mode. Labels override them.
#
# [service."shop-web"]
# class = "latency"
# mode = "auto"
# cpu_min = 0.25
# cpu_max = 4
# memory_min = "128MiB"
# memory_max = "2GiB"
# weight = 80
`

// example writes config.example.toml from the keys.
func example() string {
	var b strings.Builder
	b.WriteString(exampleHead)
	c := Defaults()
	section := ""
	for _, k := range c.bindings() {
		if unused(k.name) {
			continue
		}
		if k.section != section {
			section = k.section
			fmt.Fprintf(&b, "\n[%s]\n", section)
		}
		notes := []string{"Allowed: " + k.allowed()}
		if k.label != "" {
			notes = append(notes, "label "+labelPrefix+k.label)
		}
		if k.restart {
			notes = append(notes, "(restart)")
		}
		fmt.Fprintf(&b, "\n# %s.\n# %s\n%s = %s\n", strings.ToUpper(k.help[:1])+k.help[1:], strings.Join(notes, "; "), k.name,
			tomlText(k.field))
	}
	b.WriteString(classHead)
	for _, class := range knowledge.Classes() {
		if len(c.Classes[class]) == 0 {
			continue
		}
		fmt.Fprintf(&b, "\n[class.%s]\n", class)
		var p knowledge.Policy
		c.Classes[class].apply(&p)
		for _, s := range c.Classes[class] {
			fmt.Fprintf(&b, "%s = %s\n", s.Key, patchText(&p, s.Key))
		}
	}
	b.WriteString("\n" + serviceSample)
	return b.String()
}
