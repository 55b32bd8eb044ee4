package view

import (
	"slices"
	"strconv"
	"strings"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/node/api"
)

// Merger adds up the containers and limits of services over hosts.
type Merger struct {
	all    []api.ServiceView
	at     map[string]int               // in all, by name
	hosts  map[string]int               // how many run it, by its name
	paused map[string]map[string]string // the pause, by its name and the host
	owner  func(knowledge.ServiceKey) (owner string, warm []string)
}

// NewMerger begins with what this host runs, owners included.
func NewMerger(host string, own []api.ServiceView, owner func(knowledge.ServiceKey) (string, []string)) *Merger {
	m := &Merger{
		all: own, at: make(map[string]int, len(own)), hosts: map[string]int{},
		paused: map[string]map[string]string{}, owner: owner,
	}
	for i := range own {
		m.at[own[i].Name] = i
		m.pause(host, &own[i])
	}
	return m
}

// pause counts the hosts of a service, and keeps the pause on each.
func (m *Merger) pause(host string, v *api.ServiceView) {
	m.hosts[v.Name]++
	if v.Paused == "" {
		return
	}
	if m.paused[v.Name] == nil {
		m.paused[v.Name] = map[string]string{}
	}
	m.paused[v.Name][host] = v.Paused
}

// pauses sets each service's pause: one for all of its hosts, or one for each.
func (m *Merger) pauses() {
	for name, on := range m.paused {
		v, kinds := &m.all[m.at[name]], map[string]bool{}
		for _, text := range on {
			kind, until, _ := strings.Cut(text, "until ")
			kinds[kind+strconv.FormatBool(until == "resumed")] = true
			v.Paused = max(v.Paused, text) // the latest, where they differ by seconds
		}
		if len(on) == m.hosts[name] && len(kinds) == 1 {
			continue
		}
		v.Paused, v.Pauses = "", on
	}
}

// Add adds the services of another host.
func (m *Merger) Add(host string, more []api.ServiceView) {
	for _, v := range more {
		m.pause(host, &v)
		i, ok := m.at[v.Name]
		if !ok {
			v.Owner, v.Warm = m.owner(knowledge.ServiceKey(v.Name))
			m.at[v.Name] = len(m.all)
			m.all = append(m.all, v)
			continue
		}
		a := &m.all[i]
		a.Containers = append(a.Containers, v.Containers...)
		a.CPUUsed += v.CPUUsed
		a.MemoryUsed += v.MemoryUsed
		a.CPULimit, a.MemoryLimit = sum(a.CPULimit, v.CPULimit), sum(a.MemoryLimit, v.MemoryLimit)
	}
}

// Services are the services by name; nothing can be added after it.
func (m *Merger) Services() []api.ServiceView {
	m.pauses()
	slices.SortFunc(m.all, func(a, b api.ServiceView) int { return strings.Compare(a.Name, b.Name) })
	return m.all
}

// sum of two limits; nil is none, and none and some is none.
func sum[T int64 | float64](a, b *T) *T {
	if a == nil || b == nil {
		return nil
	}
	v := *a + *b
	return &v
}
