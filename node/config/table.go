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
// without a key last. The keys of [policy] stand in [class.NAME] and
// [service."NAME"] too.
func Keys() []Key {
	c := Defaults()
	var keys []Key
	plain := plainLabels()
	for _, b := range c.bindings() {
		k := Key{Section: b.section, Name: b.name, Type: b.kind(), Default: tomlText(b.field), Allowed: b.allowed(), Env: b.env(), Help: b.help, Restart: b.restart}
		if b.label != "" {
			k.Label = labelPrefix + b.label
		}
		keys = append(keys, k)
	}
	policy := c.PolicyFor(knowledge.Container{Labels: map[string]string{labelPrefix + "enable": "true"}})
	for _, b := range serviceKnobs(&policy)[:2] {
		keys = append(keys, Key{Section: b.section, Name: b.name, Type: b.kind(), Default: tomlText(b.field), Allowed: b.allowed(), Label: labelPrefix + b.label, Help: b.help})
	}
	for _, l := range plain {
		keys = append(keys, Key{Type: "label", Default: "", Allowed: l.allowed, Label: labelPrefix + l.name, Help: l.help})
	}
	return keys
}

// Table is the documentation of all keys and labels as one Markdown table.
func Table() string {
	var b strings.Builder
	b.WriteString("| key | default | allowed | label | what it does |\n|---|---|---|---|---|\n")
	code := func(s string) string {
		if s == "" {
			return ""
		}
		return "`" + s + "`"
	}
	for _, k := range Keys() {
		name := ""
		if k.Section != "" {
			name = k.Section + "." + k.Name
		}
		help := k.Help
		if k.Restart {
			help += " (restart)"
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n", code(name), code(k.Default), k.Allowed, code(k.Label), help)
	}
	return b.String()
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

// NeedsRestart lists the keys whose values differ in next and that a running
// daemon cannot take over. A reload applies the rest.
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
