package claim

import "time"

const (
	// A node's first flap costs 5 s, further ones 10, 20, 40, 80, 160 s, and 5 min
	// from the seventh on: one that is up and down for 10 s each owns something for
	// 5 s once, and then nothing until it stays.
	penaltyFirst, penaltyMost = 5 * time.Second, 5 * time.Minute
	// penaltyCalm without a flap forgets all.
	penaltyCalm = 10 * time.Minute
)

// Penalty is how long a node that comes and goes waits before it may own anything:
// longer each time. The zero value is that of a node that never did.
type Penalty struct {
	hold time.Duration
	last time.Time
}

// Flap notes that the node came back, was cut off or was frozen.
func (p *Penalty) Flap(now time.Time) {
	if p.hold == 0 || now.Sub(p.last) >= penaltyCalm {
		p.hold = penaltyFirst
	} else {
		p.hold = min(2*p.hold, penaltyMost)
	}
	p.last = now
}

// Until is when the node may own again; the zero time when no penalty is left. A
// clock that was set back does not make it longer.
func (p *Penalty) Until(now time.Time) time.Time {
	if p.hold == 0 || now.Sub(p.last) >= p.hold {
		return time.Time{}
	}
	if now.Before(p.last) {
		return now.Add(p.hold)
	}
	return p.last.Add(p.hold)
}

// Hold is how long the last flap has cost; 0: there was none.
func (p *Penalty) Hold() time.Duration { return p.hold }
