// Package service keeps what is known of the services of this host. A service is the
// containers that do the same work: it has a profile of what they used, series of its
// demand, models that forecast it, and its replicas on this host.
//
// A Registry and all that hangs on it belong to one goroutine, that of the loop.
package service

import (
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/knowledge/history"
	"github.com/effiscale/effiscale/knowledge/profile"
	"github.com/effiscale/effiscale/mape/analyse"
	"github.com/effiscale/effiscale/mape/plan"
)

// Service is the containers that do the same work, and what is known of it.
type Service struct {
	Key      knowledge.ServiceKey
	Profile  *profile.Profile
	Series   *history.Series
	Replicas Replicas
	Pause    knowledge.Pause
	// Models forecast the demand, and know which use does harm; nil: it never moved.
	Models *Models

	demand      Demand // since the last forecast
	leastMemory knowledge.Bytes
	dirty       bool // the profile differs from what is on the disk
	writtenAt   time.Time
}

// Demand is the highest second of demand of a service's busiest container over an
// interval.
type Demand struct {
	Seen     bool
	Cores    float64
	Censored bool            // it was throttled: its demand is a lower bound
	Memory   knowledge.Bytes // the largest working set
}

func (d *Demand) add(cores float64, censored bool, memory knowledge.Bytes) {
	if !d.Seen || cores > d.Cores {
		d.Seen, d.Cores, d.Censored = true, cores, censored
	}
	d.Memory = max(d.Memory, memory)
}

// Learn calls f with the profile and has it written.
func (s *Service) Learn(f func(*profile.Profile)) {
	f(s.Profile)
	s.dirty = true
}

// ObserveDemand takes in a second of one container's demand.
func (s *Service) ObserveDemand(cores float64, censored bool, memory knowledge.Bytes) {
	s.demand.add(cores, censored, memory)
}

// ObserveHarm counts a time of one container under its limit: how much of the limit
// it used, and whether that did harm.
func (s *Service) ObserveHarm(w *knowledge.Window, p *knowledge.Policy, cores float64, lasted time.Duration) {
	if s.Models == nil || w.Quota <= 0 {
		return
	}
	s.Models.Adaptive.Observe(w.At, cores/w.Quota.Cores(), analyse.Harm(w, p), lasted.Seconds())
}

// Restarted notes that one of its containers was restarted.
func (s *Service) Restarted() {
	if s.Models != nil {
		s.Models.tracker.Restarted()
	}
}

// Facts sums up the profile for the planner.
func (s *Service) Facts(p *knowledge.Policy) plan.Facts {
	return plan.Facts{
		CPU:         knowledge.FromCores(s.Profile.CPU(p.Percentile())),
		CPUMax:      knowledge.FromCores(s.Profile.CPUMax()),
		MemoryNeed:  s.Profile.MemoryNeed(p.MemoryPercentile),
		MemoryPeak:  s.Profile.MemoryMax(),
		ObservedFor: s.Profile.ObservedFor(),
	}
}

// AddForecast adds what the models say to the facts of a container with those readings.
func (s *Service) AddForecast(now time.Time, f *plan.Facts, p *knowledge.Policy, readings *history.Ring) {
	if s.Models == nil {
		return
	}
	f.Forecast = s.Models.Ahead[levelOf(p.Class)].Forecast
	f.Advice = s.Models.Advice[plan.RiskOf(p.Class)]
	if !plan.ThresholdUnused(&s.Models.Lesson, p).IsZero() {
		return
	}
	high, mean := readings.Demand(now.Add(-plan.ThresholdWindow), 1-plan.ThresholdQuantile)
	f.Threshold = plan.Threshold{
		Knee: s.Models.Lesson.Knee, Use: knowledge.FromCores(high), Mean: knowledge.FromCores(mean),
	}
}

// Ahead is the forecast that may raise a floor under that policy; zero: there is none.
func (s *Service) Ahead(p *knowledge.Policy) Outlook {
	if s.Models == nil {
		return Outlook{}
	}
	return s.Models.Ahead[levelOf(p.Class)]
}

// Patterns are the courses of demand and of memory.
func (s *Service) Patterns() (demand, memory analyse.Pattern) {
	if s.Models == nil {
		return demand, memory
	}
	return s.Models.tracker.Demand(), s.Models.tracker.Memory()
}

// Thresholds are the learned ones for a container's quota and what is expected. Only a
// forecast that is proven knows how uncertain it is.
func (s *Service) Thresholds(p *knowledge.Policy, quota knowledge.NanoCPU) (analyse.Thresholds, bool) {
	if s.Models == nil || quota <= 0 {
		return analyse.Thresholds{}, false
	}
	uncertainty := 0.0
	if a := s.Ahead(p); a.Proven() {
		uncertainty = max(a.Upper.Cores()-a.Peak, 0)
	}
	return s.Models.Adaptive.Thresholds(uncertainty, quota.Cores()), true
}

// Steering is what the learned threshold does to a container with that envelope, or
// why it does nothing.
func (s *Service) Steering(p *knowledge.Policy, e *knowledge.Envelope) knowledge.Reason {
	if !e.Threshold.IsZero() || s.Models == nil {
		return e.Threshold
	}
	if why := plan.ThresholdUnused(&s.Models.Lesson, p); !why.IsZero() {
		return why
	}
	return knowledge.Because(knowledge.RuleNoOwner) // it is learned, and not planned with yet
}

// Learned sums up a profile for people.
type Learned struct {
	ObservedFor     time.Duration
	CPUMean, CPUMax float64 // cores
	CPUUsual        float64 // the policy's percentile, cores
	Censored        float64 // share of the time that was throttled, 0..1
	MemoryNeed      knowledge.Bytes
	MemoryMax       knowledge.Bytes
	Growth          float64 // bytes a second, the highest, faded
	Start           time.Duration
	Cuts            [2]profile.Tally // by resource
	// Image is what is known of its image, while the service's history is short.
	Image plan.Image
}

// Learned sums up the profile under that policy.
func (s *Service) Learned(now time.Time, policy *knowledge.Policy) Learned {
	p := s.Profile
	v := Learned{
		ObservedFor: p.ObservedFor(), CPUMean: p.CPUMean(), CPUMax: p.CPUMax(), CPUUsual: p.CPU(policy.Percentile()),
		Censored: p.CensoredShare(), MemoryNeed: p.MemoryNeed(policy.MemoryPercentile), MemoryMax: p.MemoryMax(),
		Growth: p.Growth(now),
	}
	if p.Starts() >= 1 {
		v.Start = p.StartTime(0.95)
	}
	for r := range v.Cuts {
		v.Cuts[r] = p.Outcomes(knowledge.Resource(r), knowledge.Shrink)
	}
	return v
}
