package config

import (
	"maps"
	"slices"
	"strings"
)

// unused reports whether a key, or a label without its prefix, is accepted and has no
// effect any more.
func unused(name string) bool {
	name = name[strings.LastIndexByte(name, '.')+1:]
	name = strings.ReplaceAll(name, "-", "_")
	return name == "start_boost" || name == "start_boost_for"
}

// Unused are the keys of this configuration that have no effect any more, in order.
func (c *Config) Unused() (keys []string) {
	for key := range c.Origins {
		if unused(key) {
			keys = append(keys, key)
		}
	}
	for class, patch := range c.Classes {
		for _, s := range patch {
			if unused(s.Key) {
				keys = append(keys, "class."+class.String()+"."+s.Key)
			}
		}
	}
	for service, patch := range c.Services {
		for _, s := range patch {
			if unused(s.Key) {
				keys = append(keys, "service."+string(service)+"."+s.Key)
			}
		}
	}
	slices.Sort(keys)
	return slices.Compact(keys)
}

// UnusedLabel is the first label of a container that has no effect any more; "": none.
func UnusedLabel(labels map[string]string) string {
	for _, name := range slices.Sorted(maps.Keys(labels)) {
		if short, ok := strings.CutPrefix(name, labelPrefix); ok && unused(short) {
			return name
		}
	}
	return ""
}
