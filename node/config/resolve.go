package config

import (
	"fmt"
	"slices"
	"strings"

	"github.com/effiscale/effiscale/knowledge"
)

// apply lays the patch over a policy and reports whether there was anything to
// lay. Its values were checked when they were loaded.
func (p Patch) apply(policy *knowledge.Policy) bool {
	if len(p) == 0 {
		return false
	}
	known := serviceKnobs(policy)
	for _, s := range p {
		if i := slices.IndexFunc(known, func(b binding) bool { return b.name == s.Key }); i >= 0 {
			// cannot fail: the text was made by the same field
			_ = known[i].set(bare(s.Value))
		}
	}
	return true
}

// class sets only the class that the patch names.
func (p Patch) class(policy *knowledge.Policy) {
	for _, s := range p {
		if s.Key == "class" {
			policy.Class, _ = knowledge.ParseClass(s.Value)
		}
	}
}

// sets reports whether the patch sets one of the keys.
func (p Patch) sets(keys ...string) bool {
	return slices.ContainsFunc(p, func(s Setting) bool { return slices.Contains(keys, s.Key) })
}

// PolicyFor computes the policy of one container: the defaults, the preset of its
// class, its service's table, its labels, each over the one before. A label that
// cannot be read is a Problem, which turns automation off for this container
// only. It reads ctr.Name, ctr.Labels and ctr.Service and nothing else.
func (c *Config) PolicyFor(ctr knowledge.Container) knowledge.Policy {
	service := ctr.Service
	if service == "" {
		service = knowledge.ServiceOf(ctr.Name, ctr.Labels)
	}
	p := c.Policy
	p.Mode = c.Node.Mode
	p.CPUSource, p.MemorySource = knowledge.SourceDefault, knowledge.SourceDefault
	table := c.serviceTable(service)
	table.class(&p)
	if class, err := knowledge.ParseClass(ctr.Labels[labelPrefix+"class"]); err == nil {
		p.Class = class
	}
	c.layer(&p, c.Classes[p.Class], "class")
	c.layer(&p, table, "service")
	c.labels(&p, ctr.Labels)
	c.finish(&p)
	return p
}

// serviceTable is the table of a service: by its own name, or with project and service joined
// as earlier versions did.
func (c *Config) serviceTable(service knowledge.ServiceKey) Patch {
	service = service.Policy()
	if table, ok := c.Services[service]; ok {
		return table
	}
	_, joined := service.Aliases()
	return c.Services[knowledge.ServiceKey(joined)]
}

func (c *Config) layer(p *knowledge.Policy, patch Patch, name string) {
	if !patch.apply(p) {
		return
	}
	if patch.sets("cpu_min", "cpu_max") {
		p.CPUSource = name
	}
	if patch.sets("memory_min", "memory_max") {
		p.MemorySource = name
	}
}

// finish applies the host's caps and what follows from the rest.
func (c *Config) finish(p *knowledge.Policy) {
	if most := c.Limits.ContainerCPUMax; most > 0 {
		p.CPU = capped(p.CPU, most)
	}
	if most := c.Limits.ContainerMemoryMax; most > 0 {
		p.Memory = capped(p.Memory, most)
	}
	if p.CPU.Max > 0 && p.CPU.Min > p.CPU.Max {
		p.Problems = append(p.Problems, fmt.Sprintf("cpu_min %s is above cpu_max %s, "+
			"with class, service and labels applied", p.CPU.Min, p.CPU.Max))
	}
	if p.Memory.Max > 0 && p.Memory.Min > p.Memory.Max {
		p.Problems = append(p.Problems, fmt.Sprintf("memory_min %s is above memory_max %s, "+
			"with class, service and labels applied", p.Memory.Min, p.Memory.Max))
	}
	if len(p.Problems) > 0 {
		p.Managed = false
	}
	if !p.Managed {
		p.Mode = min(p.Mode, knowledge.ModeObserve)
	}
}

func capped[T ~int64](r knowledge.Range[T], most T) knowledge.Range[T] {
	if r.Max == 0 || r.Max > most {
		r.Max = most
	}
	r.Min = min(r.Min, most)
	return r
}

// Disagreements lists, for status, where containers of one service have different
// values of a label that should be the same: at most one line a service and label,
// sorted. Each container follows its own labels.
func Disagreements(containers []knowledge.Container) []string {
	type seen struct {
		name, value string
		told        bool
	}
	first := map[string]*seen{}
	var lines []string
	sorted := slices.Clone(containers)
	slices.SortFunc(sorted, func(a, b knowledge.Container) int { return strings.Compare(a.Name, b.Name) })
	for _, ctr := range sorted {
		for _, label := range []string{"class", "cpu", "memory", "mode"} {
			value := ctr.Labels[labelPrefix+label]
			key := string(ctr.Service) + "\x00" + label
			switch s := first[key]; {
			case s == nil:
				first[key] = &seen{name: ctr.Name, value: value}
			case s.value != value && !s.told:
				s.told = true
				lines = append(lines, fmt.Sprintf(
					"service %s: label %s%s is %s on %s and %s on %s; each container follows its own label",
					show(string(ctr.Service)), labelPrefix, label, show(s.value), show(s.name), show(value), show(ctr.Name)))
			}
		}
	}
	slices.Sort(lines)
	return lines
}
