package simulate

import "time"

// Seen is the input at the start of a step: the measurements of the steps before it,
// and the limits in force. CPU is in cores, memory in bytes, both of the whole
// service unless noted.
type Seen struct {
	Step int           // the step that is about to begin, from 1
	At   time.Duration // its start
	Dt   time.Duration // its length, and that of the step before

	// Usage is the use in the step before.
	Usage float64
	// Demand is the use without a limit. When a CPU limit throttled (Censored), it is
	// usage and the throttled time. Memory is seen up to the limit only. A request is no
	// limit, so a peer that sets requests sees demand, too.
	Demand   float64
	Censored bool
	// Throttle is the share of CFS periods that were throttled.
	Throttle float64
	// OOM is how many replicas were killed for memory in the step before.
	OOM int

	// Cores and Memory are the limits of one replica, Ready and Starting replicas
	// at the start of this step.
	Cores, Memory   float64
	Ready, Starting int
}

// Replicas is how many there are, those that are starting included.
func (s *Seen) Replicas() int { return s.Ready + s.Starting }

// Want is what should be in force from now on: the limits of one replica, and
// how many. A field that is 0 stays as it is.
type Want struct {
	Cores    float64
	Replicas int
	Memory   float64
}

// Policy decides, once at the start of every step but the first. It may keep state.
type Policy interface {
	Decide(s *Seen) Want
}

// Axis is what a policy may change.
type Axis uint8

// The axes.
const (
	Vertical   Axis = iota // the limits of one replica
	Horizontal             // the number of replicas
	Both
)

// Axes are the names of the axes, in their order.
func Axes() []string { return []string{"vertical", "horizontal", "both"} }

func (a Axis) String() string { return Axes()[min(int(a), len(Axes())-1)] }
