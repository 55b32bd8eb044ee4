package knowledge

import "time"

// Quality is how far a window can be trusted, from worst to best.
type Quality uint8

// The qualities. Only Good supports a cut; Warming supports growth.
const (
	QualityMissing Quality = iota // nothing was ever read
	QualityStale                  // the newest reading is too old
	QualityAbsurd                 // the newest readings make no sense
	QualityWarming                // too few readings for a rate
	QualityGood
)

// Symptom is the state of one resource, from healthy to critical.
type Symptom uint8

// The symptoms.
const (
	SymptomNone     Symptom = iota
	SymptomIdle             // uses next to nothing
	SymptomRoomy            // has clearly more than it needs
	SymptomTight            // near its limit
	SymptomStarved          // held back by its limit
	SymptomCritical         // out of it: an OOM kill, or throttled hard
)

// Finding is what analysis makes of a window.
type Finding struct {
	ID      ContainerID
	At      time.Time
	Quality Quality
	CPU     Symptom
	Memory  Symptom
	// Boost: throttled so hard that the next second cannot be waited for.
	Boost bool
	// Demand is the CPU that the container would use if it could.
	Demand NanoCPU
	// TimeToFull is how long the memory limit lasts at the present growth;
	// 0: it does not grow, or has no limit.
	TimeToFull time.Duration
	// MemoryCalm is how long there was no memory event, OOM kill or pressure.
	MemoryCalm time.Duration
	// Starting: not yet healthy, or started a short time ago and not settled.
	Starting bool
	// Age is how long ago the container started; 0: not known.
	Age    time.Duration
	Reason Reason
}

// Resource is what a decision is about.
type Resource uint8

// The resources.
const (
	ResourceCPU Resource = iota
	ResourceMemory
)

// Same reports whether two limits are printed alike: from one to the other is no change.
// 0 is no limit.
func (r Resource) Same(a, b int64) bool {
	switch {
	case a == b:
		return true
	case a == 0 || b == 0:
		return false
	case r == ResourceMemory:
		return Bytes(a).String() == Bytes(b).String() && max(a-b, b-a) < int64(MiB)
	}
	return NanoCPU(a).String() == NanoCPU(b).String()
}

// Verb is what a decision does, from safe to risky.
type Verb uint8

// The verbs.
const (
	Hold Verb = iota
	Grow
	Shrink
)

// Actor is the source of an action.
type Actor uint8

// The actors.
const (
	ActorReflex Actor = iota
	ActorDeliberation
	ActorUser     // the API or the command line
	ActorUndo     // a cut that caused throttling or pressure is reverted
	ActorRepair   // drift is repaired
	ActorRestore  // the original limits come back
	ActorExternal // an external change: observed, not made
)

// Decision is what should hold for one resource of one container from now on.
type Decision struct {
	ID       ContainerID
	Resource Resource
	Verb     Verb
	Actor    Actor
	At       time.Time
	// From and To are limits in the resource's unit (NanoCPU or Bytes); 0: none.
	From, To int64
	// Boost: the step bounds of the guards do not hold for it.
	Boost  bool
	Reason Reason
	Key    string // of the API request; empty: none
}

// Envelope bounds the reflex.
type Envelope struct {
	// CPU is the floor and the ceiling of the quota.
	CPU            Range[NanoCPU]
	ThrottleTarget float64
	// Memory is the limit that the deliberation asks for; MemoryFloor bounds a shrink.
	Memory, MemoryFloor, MemoryCeiling Bytes
	// FirstCPU and FirstMemory are the first limits of a container that has none yet and
	// whose image is known; 0: it is observed first.
	FirstCPU    NanoCPU
	FirstMemory Bytes
	// LearnedCPU is the CPU floor without a forecast, ForecastCPU the one that a forecast
	// raises it to; 0: none does, for the reason in Forecast.
	LearnedCPU, ForecastCPU NanoCPU
	Forecast                Reason
	// ThresholdCPU is what a learned threshold raises the CPU floor to, CutCPU the
	// least that a cut may leave for it; 0: none steers. Both lie within the ceiling,
	// and neither is promised when the host is short.
	ThresholdCPU NanoCPU `cbor:",omitzero"`
	CutCPU       NanoCPU `cbor:",omitzero"`
	Threshold    Reason  `cbor:",omitzero"`
	// Learned: the floors come from a profile, not from the policy alone.
	Learned bool
	Term    Term
	At      time.Time
	Reason  Reason
}

// Result is how an action ended, from unknown to bad.
type Result uint8

// The results.
const (
	ResultOpen       Result = iota // recorded, not closed yet
	ResultApplied                  // verified in the kernel
	ResultAdjusted                 // applied, and the kernel holds another value (rounded, or a parent's bound)
	ResultSuperseded               // the container went away, or a newer action took its place
	ResultRefused                  // refused by a guard or the Engine
	ResultFailed                   // the Engine or the kernel could not
	ResultReverted                 // it was applied, did harm, and was reverted
)

// ActionKind names what an action does. It is a string, so that a kind of a newer
// version is still readable.
type ActionKind string

// The kinds of actions.
const (
	ActionResize  ActionKind = "resize"  // change a limit of a container
	ActionCreate  ActionKind = "create"  // create a container; its ID is known afterwards
	ActionStart   ActionKind = "start"   // start a container; it has no fields of its own
	ActionStop    ActionKind = "stop"    // stop a container
	ActionRemove  ActionKind = "remove"  // remove a container
	ActionRestart ActionKind = "restart" // stop and start a container
)

// Known reports whether this version produces the kind.
func (k ActionKind) Known() bool {
	switch k {
	case ActionResize, ActionCreate, ActionStart, ActionStop, ActionRemove, ActionRestart:
		return true
	}
	return false
}

// Action is one change of one container, recorded before it is executed. Kind selects
// the struct below that holds the details; the others are zero.
type Action struct {
	// Seq identifies an action of a node; it grows and is never reused.
	Seq     uint64
	Kind    ActionKind
	ID      ContainerID
	Name    string
	Service ServiceKey
	Actor   Actor
	At      time.Time
	Reason  Reason
	// Key deduplicates requests of the API for a day; empty: none.
	Key string
	// Newer: it was written by a newer version and holds names that are unknown here. It
	// is shown as far as it was understood, and never written again.
	Newer bool

	Resize  Resize
	Create  Create
	Stop    Stop
	Remove  Remove
	Restart Restart
}

// Resize changes one limit of a container.
type Resize struct {
	Resource Resource
	Verb     Verb
	From, To int64 // the resource's unit (NanoCPU or Bytes); 0: no limit
	// Count is how many quota moves of the reflex this record folds together,
	// From of the first to To of the last; 0 and 1: a single one.
	Count int
	// Start: it changes what the container starts with (the Engine's record), and not
	// the limit in force.
	Start bool
}

// Create makes a container of a service.
type Create struct {
	Image    string      `json:"image"`              // its id, or its digest
	Template ContainerID `json:"template,omitempty"` // whose configuration was copied; empty: none
	Slot     int         `json:"slot,omitempty"`     // its number among the service's replicas on this host
}

// Stop ends a container's processes.
type Stop struct {
	Timeout time.Duration `json:"timeout"` // after which they are killed
}

// Remove deletes a container.
type Remove struct {
	Force   bool `json:"force,omitempty"`   // also one that runs
	Volumes bool `json:"volumes,omitempty"` // with its anonymous volumes
}

// Restart stops and starts a container.
type Restart struct {
	Timeout time.Duration `json:"timeout"` // after which its processes are killed
}

// Outcome closes an action.
type Outcome struct {
	Seq     uint64
	Result  Result
	At      time.Time
	Took    time.Duration
	Kernel  int64 // what the kernel holds after a resize
	Engine  int64 // what the Engine holds after a resize
	Message string
}

// Record is one line of history: an action and how it ended.
type Record struct {
	Action  Action
	Outcome Outcome
}

// Original is what a container was allowed before EffiScale first changed it:
// the way back.
type Original struct {
	ID      ContainerID `json:"id"`
	Name    string      `json:"name"`
	Service ServiceKey  `json:"service"`
	Limits  Limits      `json:"limits"`
	At      time.Time   `json:"at"`
	// Lost, by resource: the record of before was lost then, or another daemon changed the
	// container, and Limits holds what was found afterwards; zero: Limits is what the container was allowed.
	Lost [2]time.Time `json:"lost,omitzero"`
}
