package knowledge

// Bound names what bounds a container besides its own limits.
type Bound uint8

// The bounds.
const (
	BoundNone   Bound = iota
	BoundParent       // a limit of a cgroup above the container's
	BoundCPUSet       // the CPUs that it may run on
	BoundInner        // a quota of a cgroup inside the container's
	BoundBurst        // its CFS burst
)

// Bounds are what bounds a container besides its own limits. 0 is no bound.
type Bounds struct {
	// CPU is the most that it can use, and by what; the kernel of cgroup v1 refuses a quota
	// above that of a parent.
	CPU   NanoCPU
	CPUBy Bound
	// CPULeast is the quota below which the kernel refuses one.
	CPULeast   NanoCPU
	CPULeastBy Bound
	// Memory is the least memory limit of the cgroups above.
	Memory Bytes
	// OOM is a counter: how often a memory limit above could not be met.
	OOM uint64
}

// String is the bound as text: "parent cgroup".
func (b Bound) String() string { return name(boundNames, b) }

// StopCause is why a container that runs, as its Engine reports it, cannot run.
type StopCause uint8

// The causes.
const (
	StopNone   StopCause = iota
	StopPaused           // by the Engine
	StopFrozen           // its control group, or one above
	StopOOM              // it waits for memory, because OOM kills are off
)

func (s StopCause) String() string { return name(stopNames, s) }

// OOMLevel is the level of the tree at which memory ran out.
type OOMLevel uint8

// The levels. OOMOwn: at the container's own limit.
const (
	OOMOwn OOMLevel = iota
	OOMParent
	OOMInner
	OOMHost
)

func (l OOMLevel) String() string { return name(oomLevelNames, l) }

// InnerKill is about processes that the kernel killed at the limit of a cgroup inside a
// container's; no Group: which one is not known.
type InnerKill struct {
	Group string // its path, from the container's
	Kills uint64 // since it was made
	Limit Bytes
}
