package claim

import "time"

const (
	// A node's first flap costs 5 s, further ones 10, 20, 40, 80, 160 s, and 5 min
	// from the seventh on: one that is up and down for 10 s each owns something for
	// 5 s once, and then nothing until it stays.
	holdDownFirst, holdDownMost = 5 * time.Second, 5 * time.Minute
	// holdDownCalm without a flap forgets all.
	holdDownCalm = 10 * time.Minute
)

// HoldDown is how long a node that comes and goes waits before it may own anything:
// longer each time. The zero value is that of a node that never did.
type HoldDown struct {
	wait time.Duration
	last time.Time
}

// Flap notes that the node came back, was disconnected or stalled.
func (h *HoldDown) Flap(now time.Time) {
	if h.wait == 0 || now.Sub(h.last) >= holdDownCalm {
		h.wait = holdDownFirst
	} else {
		h.wait = min(2*h.wait, holdDownMost)
	}
	h.last = now
}

// Restart begins the wait of the last flap anew: the same absence was noticed once more.
func (h *HoldDown) Restart(now time.Time) { h.last = now }

// Until is when the node may own again; the zero time when it does not wait. A
// clock that was set back does not make it longer.
func (h *HoldDown) Until(now time.Time) time.Time {
	if h.wait == 0 || now.Sub(h.last) >= h.wait {
		return time.Time{}
	}
	if now.Before(h.last) {
		return now.Add(h.wait)
	}
	return h.last.Add(h.wait)
}

// Wait is that of the last flap; 0: there was none.
func (h *HoldDown) Wait() time.Duration { return h.wait }
