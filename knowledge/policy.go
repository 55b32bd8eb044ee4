package knowledge

import "time"

// Mode bounds what EffiScale may do. The order is from safe to risky.
type Mode uint8

// The modes.
const (
	ModeOff       Mode = iota // not even observed
	ModeObserve               // measured and shown; would-be limits are computed
	ModeRecommend             // as observe, and the recommendation is the message
	ModeAuto                  // acted upon
)

// Class is a preset for a kind of work.
type Class uint8

// The classes. The zero value is the default one.
const (
	ClassServing Class = iota
	ClassLatency
	ClassBatch
	ClassDatabase
	ClassJVM
	ClassCache
)

// CPUMode is how CPU is limited.
type CPUMode uint8

// The modes: a hard quota, or no limit at all and shares that follow demand.
const (
	CPUQuota CPUMode = iota
	CPUWeight
)

// Actuator is how a CPU quota reaches the kernel.
type Actuator uint8

// The actuators: every change through the Engine, or the kernel file first and
// the Engine lazily.
const (
	ActuatorEngine Actuator = iota
	ActuatorKernel
)

// Policy is what holds for one container: the configuration's defaults, its
// class, its labels, in that order.
type Policy struct {
	Managed bool // effiscale.enable=true, and no label was bad
	Mode    Mode // effective: observe at most when not Managed
	Class   Class
	CPUMode CPUMode

	CPU    Range[NanoCPU] // bounds of the limit
	Memory Range[Bytes]
	// CPUTarget and MemoryTarget are use over limit to aim for, 0..1; 0: adaptive.
	CPUTarget, MemoryTarget float64
	// ThrottleTarget is the share of CFS periods that may be throttled.
	ThrottleTarget float64
	// CPUPercentile of usage (0: adaptive, see Percentile) and MemoryPercentile of
	// one-minute peaks set the
	// floor that the deliberation learns, 0..1.
	CPUPercentile, MemoryPercentile float64
	// MemoryShrink: whether memory of this class is ever reduced.
	MemoryShrink bool
	// Ceiling are the upper bounds that the policy or a label names; 0: none does, and the
	// upper ends of CPU and Memory are what the host can grant.
	Ceiling Limits `cbor:"-"`
	// ShrinksPerDay bounds how often memory or the CPU floor is cut in a day.
	ShrinksPerDay int
	// ObserveFirst is how long a container, or others of its image, are watched
	// before it gets a first limit where it had none.
	ObserveFirst time.Duration
	// ShrinkAfter is how long it must be calm before memory shrinks.
	ShrinkAfter time.Duration
	// OOMProtect is how long nothing shrinks after an OOM kill.
	OOMProtect time.Duration
	// YieldFor is how long an external change is kept.
	YieldFor time.Duration
	// Weight is the priority when the host is full, 1..100.
	Weight int
	// Service holds what concerns the service as a whole.
	Service ServicePolicy
	// Allow holds the dangers that the label effiscale.allow accepts ("gpu").
	Allow []string
	Refusal
	// CPUSource and MemorySource name where the bounds come from: SourceDefault, "class",
	// "service", "label".
	CPUSource, MemorySource string
}

// SourceDefault is the source of bounds that were not set.
const SourceDefault = "default"

// Refusal is why a container that opted in is only measured.
type Refusal struct {
	// Problems are the invalid labels: label, value, allowed values. Any problem turns
	// automation off for this container only.
	Problems []string
	// Claimed names the process of another daemon that changes the container; "": none.
	Claimed string
}

// Acts reports whether the policy allows changing the container at all.
func (p *Policy) Acts() bool { return p.MayAct() && p.Claimed == "" }

// MayAct reports whether the policy allows it where no other daemon does.
func (p *Policy) MayAct() bool { return p.Managed && p.Mode == ModeAuto && len(p.Problems) == 0 }

// Percentile of past use is what the CPU floor covers, 0..1: the policy's, or the
// class's while an adaptive floor has no better answer.
func (p *Policy) Percentile() float64 {
	switch {
	case p.CPUPercentile > 0:
		return p.CPUPercentile
	case p.Class == ClassLatency:
		return 0.99
	case p.Class == ClassBatch:
		return 0.5 // near the mean, as Autopilot gives batch jobs (EuroSys'20)
	}
	return 0.95
}
