package knowledge

import "time"

// Pause stops automation of a service for a while.
type Pause struct {
	On       bool      `json:"on"`
	Until    time.Time `json:"until,omitzero"` // zero: until resumed
	OnlyDown bool      `json:"only_down"`
}

// Active reports whether the pause holds at now.
func (p *Pause) Active(now time.Time) bool {
	return p != nil && p.On && (p.Until.IsZero() || now.Before(p.Until))
}
