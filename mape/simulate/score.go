package simulate

import (
	"math"
	"slices"
)

// Score is what a replay was worth. All sums are over time, without the first
// step, in which no policy had decided anything.
type Score struct {
	// Under is the share of time in which demand was above the allocation.
	Under float64 `json:"underprovisioned_share"`
	// Unserved is the share of demand that was not served.
	Unserved float64 `json:"unserved_share"`
	// Slack is the unused allocation over demand.
	Slack float64 `json:"mean_relative_slack"`
	// Reserved is the total allocation, replicas that are starting included: core-seconds
	// or byte-seconds.
	Reserved float64 `json:"reserved_unit_seconds"`
	// Changes counts steps in which the service was made larger or smaller,
	// Reversals those changes that went the other way than the one before.
	Changes       int     `json:"changes"`
	ChangesPerDay float64 `json:"changes_per_day"`
	Reversals     int     `json:"reversals"`
	// OOMKills counts replicas that were killed for memory.
	OOMKills int `json:"oom_kills"`
	// Latency is nil where it was not modelled.
	Latency *Latency `json:"latency,omitempty"`
	// Replicas is nil where their number was not to be changed.
	Replicas *ReplicaScore `json:"replicas,omitempty"`
}

// Latency of requests in seconds, weighted by requests.
type Latency struct {
	P50 float64 `json:"p50_seconds"`
	P95 float64 `json:"p95_seconds"`
	P99 float64 `json:"p99_seconds"`
}

// ReplicaScore is what counts where replicas are counted.
type ReplicaScore struct {
	// Overloaded is how many seconds demand was above what serving replicas have.
	Overloaded float64 `json:"overloaded_seconds"`
	// Cover is how many seconds the first spike took to be covered; nil: there was
	// none, or it never was. Spike is where it began.
	Cover *float64 `json:"spike_covered_seconds"`
	Spike *float64 `json:"spike_at_seconds"`
	// Hours is the sum of replicas over time, with those that start.
	Hours float64 `json:"replica_hours"`
}

// Judge scores a replay.
func Judge(s *Series, o Options) Score {
	dt := s.step.Seconds()
	var out Score
	var demand, unserved, over float64
	last := int8(0)
	for i := 1; i < len(s.Demand); i++ {
		d, a := s.Demand[i], s.Allocated[i]
		demand += d
		if d > a*(1+tolerance) {
			out.Under++
			unserved += d - a
		} else {
			over += a - d
		}
		out.Reserved += s.Reserved[i] * dt
		if m := s.Moves[i]; m != 0 {
			out.Changes++
			if last != 0 && m != last {
				out.Reversals++
			}
			last = m
		}
	}
	steps := float64(max(len(s.Demand)-1, 1))
	overloaded := out.Under * dt
	out.Under /= steps
	if demand > 0 {
		out.Unserved, out.Slack = unserved/demand, over/demand
	}
	out.ChangesPerDay = float64(out.Changes) / (steps * dt / 86400)
	out.OOMKills = s.OOM
	if s.wait.total > 0 {
		out.Latency = &Latency{s.wait.quantile(0.5), s.wait.quantile(0.95), s.wait.quantile(0.99)}
	}
	if o.Axis != Vertical && !s.memory {
		out.Replicas = replicaScore(s, overloaded)
	}
	return out
}

const (
	// A spike is demand of twice the highest of the five minutes before, all of
	// ten minutes into the trace or later, for ten seconds at least.
	spikeRatio  = 2.0
	spikeBefore = 300.0 // seconds
	spikeLasts  = 10.0
)

func replicaScore(s *Series, overloaded float64) *ReplicaScore {
	out := &ReplicaScore{Overloaded: overloaded, Hours: s.held / 3600}
	at := firstSpike(s.Demand, s.step.Seconds())
	if at < 0 {
		return out
	}
	dt := s.step.Seconds()
	start := float64(at) * dt
	out.Spike = &start
	if n := covered(s, at); n >= 0 {
		took := float64(n) * dt
		out.Cover = &took
	}
	return out
}

// firstSpike is the step in which the first spike begins; -1: there is none.
func firstSpike(d []float64, dt float64) int {
	before := max(int(spikeBefore/dt), 1)
	lasts := max(int(spikeLasts/dt), 1)
	if len(d) <= before+lasts {
		return -1
	}
	top := highest{window: s2d(float64(before) * dt)}
	for i := 0; i+lasts <= len(d); i++ {
		if i >= before {
			high := top.fall[top.head].v
			if high > 0 && slices.Min(d[i:i+lasts]) > spikeRatio*high {
				return i
			}
		}
		top.add(s2d(float64(i)*dt), d[i])
	}
	return -1
}

// covered is how many steps after its begin a spike was covered: from then on
// nothing is short as long as the spike lasts; -1: it was over before.
func covered(s *Series, at int) int {
	before := slices.Max(s.Demand[max(at-max(int(spikeBefore/s.step.Seconds()), 1), 0):at])
	end := at
	for end < len(s.Demand) && s.Demand[end] > before {
		end++
	}
	last := at - 1
	for i := at; i < end; i++ {
		if s.Demand[i] > s.Allocated[i]*(1+tolerance) {
			last = i
		}
	}
	if last == end-1 {
		return -1
	}
	return last + 1 - at
}

// geometric is the place f of the way from a to b by ratio.
func geometric(a, b, f float64) float64 { return a * math.Pow(b/a, f) }
