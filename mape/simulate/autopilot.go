package simulate

import (
	"time"

	"github.com/effiscale/effiscale/knowledge/history"
)

// autopilot is Google Autopilot's recommender of moving windows (EuroSys'20,
// sections 3.2.1 and 3.3): use in histograms of 5 minutes that fade by half in
// 12 h (CPU) or 48 h (memory); for CPU of services the 95th percentile by load,
// in which a value counts as often as it is high; for memory the 98th percentile
// of the windows' peaks; 15 % on top, and the highest recommendation of the last
// hour.
type autopilot struct {
	memory bool
	use    *history.Histogram
	window time.Duration // the end of the running 5 minutes
	peak   float64
	hour   highest
	said   float64
}

const (
	autopilotWindow  = 5 * time.Minute
	autopilotCPU     = 12 * time.Hour
	autopilotMemory  = 48 * time.Hour
	autopilotLoad    = 0.95
	autopilotPeaks   = 0.98
	autopilotMargin  = 1.15
	autopilotHold    = time.Hour
	autopilotFirst   = 0.001   // cores
	autopilotMemFrom = 4 << 20 // bytes
)

func newAutopilot(memory bool) *autopilot {
	spec := history.Spec{First: autopilotFirst, Buckets: 224, HalfLife: autopilotCPU} // to 1 117 cores
	if memory {
		spec = history.Spec{First: autopilotMemFrom, Buckets: 256, HalfLife: autopilotMemory}
	}
	return &autopilot{memory: memory, use: history.New(spec), hour: highest{window: autopilotHold}}
}

func (p *autopilot) size(s *Seen) float64 {
	v := needed(s)
	p.peak = max(p.peak, v)
	if !p.memory {
		// By load: a sample weighs as much as its value.
		p.use.Add(epoch(s.At), v, max(v, autopilotFirst)*s.Dt.Seconds())
	}
	if s.At >= p.window {
		if p.memory {
			p.use.Add(epoch(s.At), p.peak, 1)
		}
		p.window, p.peak = s.At+autopilotWindow, 0
		p.said = p.hour.add(s.At, p.quantile()*autopilotMargin)
	}
	if p.memory && s.OOM > 0 {
		p.said = p.hour.add(s.At, v)
	}
	return p.said
}

func (p *autopilot) quantile() float64 {
	if p.memory {
		return p.use.Quantile(autopilotPeaks)
	}
	return p.use.Quantile(autopilotLoad)
}
