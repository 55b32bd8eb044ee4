package config

import (
	"fmt"
	"strings"

	"github.com/effiscale/effiscale/knowledge"
)

// Key documents one setting: of the file, of a label, or of both.
type Key struct {
	Section string // "" : a label only
	Name    string
	Type    string // boolean, word, string, list, count, number, share, cores, size, duration
	Default string // as TOML
	Allowed string
	Env     string // the variable that overrides it
	Label   string // the container label that overrides it; "": none
	Help    string // one line
	Restart bool   // a change takes effect after a restart only
}

// Keys documents every key and every label, in the order of the file, labels
// without a key last. The keys of [policy] are also keys of [class.NAME] and
// [service."NAME"].
func Keys() []Key {
	c := Defaults()
	var keys []Key
	for _, b := range c.bindings() {
		k := document(b)
		k.Env, k.Restart = b.env(), b.restart
		keys = append(keys, k)
	}
	policy := c.PolicyFor(knowledge.Container{Labels: map[string]string{labelPrefix + "enable": "true"}})
	for _, b := range serviceKnobs(&policy)[:2] {
		keys = append(keys, document(b))
	}
	for _, l := range plainLabels() {
		keys = append(keys, Key{Type: "label", Allowed: l.allowed, Label: labelPrefix + l.name, Help: l.help})
	}
	return keys
}

func document(b binding) Key {
	k := Key{
		Section: b.section, Name: b.name, Type: b.kind(), Default: tomlText(b.field), Allowed: b.allowed(), Help: b.help,
	}
	if b.label != "" {
		k.Label = labelPrefix + b.label
	}
	return k
}

// Table is the documentation of all keys as Markdown, one table a section.
func Table() string {
	var b strings.Builder
	section := ""
	for _, k := range Keys() {
		if k.Section == "" {
			continue
		}
		if k.Section != section {
			section = k.Section
			title := "[" + section + "]"
			if section == "service" {
				title = `[service."NAME"], besides the keys of [policy]`
			}
			fmt.Fprintf(&b, "\n## %s\n\n| key | default | allowed | label | meaning |\n|---|---|---|---|---|\n", title)
		}
		help := k.Help
		if k.Restart {
			help += " (restart)"
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n",
			code(section+"."+k.Name), code(k.Default), k.Allowed, code(k.Label), help)
	}
	return b.String() + "\n"
}

// LabelTable is the documentation of all labels as a Markdown table: those without a
// key first.
func LabelTable() string {
	var b strings.Builder
	b.WriteString("| label | allowed | key | meaning |\n|---|---|---|---|\n")
	row := func(k Key, key string) {
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", code(k.Label), k.Allowed, code(key), k.Help)
	}
	listed := map[string]bool{}
	for _, k := range Keys() {
		if k.Section == "" {
			listed[k.Label] = true
			row(k, "")
		}
	}
	for _, k := range Keys() {
		if k.Label != "" && !listed[k.Label] {
			listed[k.Label] = true
			row(k, k.Section+"."+k.Name)
		}
	}
	return b.String()
}

func code(s string) string {
	if s == "" {
		return ""
	}
	return "`" + s + "`"
}

// Effective prints every value in force, as TOML, with its origin beside it.
func (c *Config) Effective() string {
	var b strings.Builder
	line := func(name, value string, o Origin) {
		fmt.Fprintf(&b, "%-48s # %s\n", name+" = "+value, printable(o.String()))
	}
	section := ""
	for _, k := range c.bindings() {
		if k.section != section {
			section = k.section
			fmt.Fprintf(&b, "\n[%s]\n", section)
		}
		line(k.name, tomlText(k.field), c.Origins[k.path()])
	}
	patch := func(section string, p Patch) {
		if len(p) == 0 {
			return
		}
		var scratch knowledge.Policy
		fmt.Fprintf(&b, "\n[%s]\n", section)
		p.apply(&scratch)
		for _, s := range p {
			line(s.Key, patchText(&scratch, s.Key), s.Origin)
		}
	}
	for _, class := range knowledge.Classes() {
		patch("class."+class.String(), c.Classes[class])
	}
	for _, name := range sortedServices(c.Services) {
		patch("service."+quote(string(name)), c.Services[name])
	}
	return strings.TrimPrefix(b.String(), "\n")
}

// patchText is one policy key's value as TOML.
func patchText(p *knowledge.Policy, key string) string {
	for _, k := range serviceKnobs(p) {
		if k.name == key {
			return tomlText(k.field)
		}
	}
	return ""
}

// NeedsRestart lists the keys with another value in next that take effect after a
// restart only. A reload applies the others.
func (c *Config) NeedsRestart(next *Config) []string {
	var keys []string
	mine, theirs := c.bindings(), next.bindings()
	for i, k := range mine {
		if k.restart && k.text() != theirs[i].text() {
			keys = append(keys, k.path())
		}
	}
	return keys
}
