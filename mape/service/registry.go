package service

import (
	"hash/fnv"
	"iter"
	"maps"
	"slices"
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/knowledge/history"
	"github.com/effiscale/effiscale/knowledge/profile"
)

const (
	// maxIdle bounds the services that are kept without a container; the store has
	// them up to its own bound. 512 at 12 KB are 6 MB.
	maxIdle = 512
	// maxForecast bounds the services that are forecast: at 110 KB in memory and
	// 64 KB on the disk each, 7 MB and 4 MB.
	maxForecast = 64
	// forecastBudget bounds what the forecasts of one pass take. One takes 15 µs, and
	// 4 ms when it searches for a period: the others then wait for the next passes, so
	// that none comes late.
	forecastBudget = 5 * time.Millisecond
	// writeModelsEvery spaces the records of one service's models: at 64 services of
	// 64 KB 7 KB a second. A crash loses what came since.
	writeModelsEvery = 10 * time.Minute
	// writeAtOnce is how many profiles one transaction holds, those that wait longest
	// first, and writeWithin how long any waits: a thousand of 3 KB at once would double
	// the heap. A crash loses what came since.
	writeAtOnce = 100
	writeWithin = 2 * time.Minute
)

// Registry is all services of this host.
type Registry struct {
	services map[knowledge.ServiceKey]*Service
	forecast int        // services that have models
	pending  []*Service // whose demand is not in their models yet
}

// NewRegistry makes an empty one.
func NewRegistry() *Registry {
	return &Registry{services: map[knowledge.ServiceKey]*Service{}}
}

// Get finds or makes the service of that name.
func (r *Registry) Get(key knowledge.ServiceKey) *Service {
	s := r.services[key]
	if s == nil {
		s = &Service{Key: key, Profile: profile.New(), Series: history.NewSeries()}
		r.services[key] = s
	}
	return s
}

// Lookup finds the service of that name; nil: there is none.
func (r *Registry) Lookup(key knowledge.ServiceKey) *Service { return r.services[key] }

// All are the services in no order.
func (r *Registry) All() iter.Seq[*Service] { return maps.Values(r.services) }

// Stored is what the store has of all services.
type Stored struct {
	Profiles map[knowledge.ServiceKey]*profile.Profile
	Series   map[knowledge.ServiceKey]*history.Series
	Pauses   map[knowledge.ServiceKey]knowledge.Pause
	Models   map[knowledge.ServiceKey][]byte
	// Recent are the last hours by the minute, oldest first, of services with models.
	Recent map[knowledge.ServiceKey][]history.Bucket
}

// Restore takes over what the store has, for forecasts in those steps. It returns why
// models of a service cannot be used: they are learned again.
func (r *Registry) Restore(now time.Time, step time.Duration, stored Stored) map[knowledge.ServiceKey]error {
	for key, p := range stored.Profiles {
		r.Get(key).Profile = p
	}
	for key, s := range stored.Series {
		r.Get(key).Series = s
	}
	for key, p := range stored.Pauses {
		r.Get(key).Pause = p
	}
	type restored struct {
		key knowledge.ServiceKey
		*Models
	}
	var all []restored
	unusable := map[knowledge.ServiceKey]error{}
	for key, b := range stored.Models {
		m, err := unmarshalModels(b, now, step)
		switch {
		case err != nil:
			unusable[key] = err
		case now.Sub(m.at) <= longestGap: // older ones are of something else
			all = append(all, restored{key, m})
		}
	}
	slices.SortFunc(all, func(a, b restored) int { return b.at.Compare(a.at) })
	for _, m := range all[:min(len(all), maxForecast)] {
		m.recall(stored.Recent[m.key], now)
		m.writtenAt = now.Add(-spread(m.key, writeModelsEvery))
		r.Get(m.key).Models = m.Models
		r.forecast++
	}
	return unusable
}

// Forget drops the services that are without a container for longest.
func (r *Registry) Forget(now time.Time) {
	var idle []*Service
	for _, s := range r.services {
		if s.Replicas.Total == 0 && !s.Pause.Active(now) && !s.dirty {
			idle = append(idle, s)
		}
	}
	if len(idle) <= maxIdle {
		return
	}
	slices.SortFunc(idle, func(a, b *Service) int { return a.Replicas.LeftAt.Compare(b.Replicas.LeftAt) })
	for _, s := range idle[:len(idle)-maxIdle] {
		if s.Models != nil {
			r.forecast--
		}
		delete(r.services, s.Key)
	}
}

// Pauses are all that are active now.
func (r *Registry) Pauses(now time.Time) map[knowledge.ServiceKey]knowledge.Pause {
	out := map[knowledge.ServiceKey]knowledge.Pause{}
	for key, s := range r.services {
		if s.Pause.Active(now) {
			out[key] = s.Pause
		}
	}
	return out
}

// Forecast lets the models of each service that is measured take in its demand, in
// those steps. Services that never moved have none. clock bounds what this pass takes:
// ForecastPending goes on with the rest.
func (r *Registry) Forecast(now time.Time, step time.Duration, clock func() time.Time) {
	r.pending = r.pending[:0]
	for _, s := range r.services {
		if s.Replicas.Measured > 0 {
			r.pending = append(r.pending, s)
		}
	}
	r.ForecastPending(now, step, clock)
}

// Pending reports whether the last pass left services.
func (r *Registry) Pending() bool { return len(r.pending) > 0 }

// ForecastPending goes on with the services that the last pass left.
func (r *Registry) ForecastPending(now time.Time, step time.Duration, clock func() time.Time) {
	if len(r.pending) == 0 {
		return
	}
	began := clock()
	for len(r.pending) > 0 {
		last := len(r.pending) - 1
		s := r.pending[last]
		r.pending = r.pending[:last]
		r.forecastOne(now, step, s)
		if s.Models != nil && clock().Sub(began) > forecastBudget {
			return
		}
	}
}

func (r *Registry) forecastOne(now time.Time, step time.Duration, s *Service) {
	m := s.Models
	switch {
	case m == nil && s.moves() && r.forecast < maxForecast,
		m != nil && m.step != step: // the setting changed: they start again
		if m == nil {
			r.forecast++
		}
		m = newModels(now.Add(-step), step)
		m.writtenAt = now.Add(-spread(s.Key, writeModelsEvery))
		s.Models = m
	case m != nil && now.Sub(m.movedAt) >= idleFor:
		s.Models, m = nil, nil
		r.forecast--
	}
	if m == nil || m.observe(now, s.demand) {
		s.demand = Demand{}
	}
}

// moves reports whether a service without models should have some.
func (s *Service) moves() bool {
	if s.demand.Seen && (s.leastMemory == 0 || s.demand.Memory < s.leastMemory) {
		s.leastMemory = s.demand.Memory
	}
	return s.demand.Cores >= movingCores || s.demand.Memory-s.leastMemory >= movingMemory
}

// Packed is what changed, for the store.
type Packed struct {
	Profiles map[knowledge.ServiceKey][]byte
	Series   map[knowledge.ServiceKey][]history.Chunk
	Models   map[knowledge.ServiceKey][]byte
}

// Pack takes what changed since the last time; with all everything, but models only
// where they changed.
func (r *Registry) Pack(now time.Time, all bool) Packed {
	p := Packed{
		Profiles: map[knowledge.ServiceKey][]byte{}, Series: map[knowledge.ServiceKey][]history.Chunk{},
		Models: map[knowledge.ServiceKey][]byte{},
	}
	var changed []*Service
	for key, s := range r.services {
		if m := s.Models; m != nil && m.dirty && (all || now.Sub(m.writtenAt) >= writeModelsEvery) {
			m.dirty, m.writtenAt = false, now
			p.Models[key] = m.Marshal()
		}
		if s.dirty || all {
			changed = append(changed, s)
		}
	}
	if len(changed) > writeAtOnce && !all {
		slices.SortFunc(changed, func(a, b *Service) int { return a.writtenAt.Compare(b.writtenAt) })
	}
	for i, s := range changed {
		if i >= writeAtOnce && !all {
			if s.writtenAt.IsZero() { // it waits from now on
				s.writtenAt = now
			}
			if now.Sub(s.writtenAt) < writeWithin {
				continue
			}
		}
		s.dirty, s.writtenAt = false, now
		p.Profiles[s.Key] = s.Profile.Marshal()
		if c := s.Series.Chunks(); len(c) > 0 {
			p.Series[s.Key] = c
		}
	}
	return p
}

// Unsaved marks what a failed commit held, so that the next one has it as it is then.
func (r *Registry) Unsaved(failed Packed) {
	for key := range failed.Profiles {
		if s := r.services[key]; s != nil {
			s.dirty = true
		}
	}
	for key := range failed.Models {
		if s := r.services[key]; s != nil && s.Models != nil {
			s.Models.dirty, s.Models.writtenAt = true, time.Time{}
		}
	}
}

// spread is a part of a span that is each service's own, so that they are not all
// written at once.
func spread(key knowledge.ServiceKey, span time.Duration) time.Duration {
	h := fnv.New32a()
	_, _ = h.Write([]byte(key)) // never fails
	return time.Duration(h.Sum32()%1000) * span / 1000
}
