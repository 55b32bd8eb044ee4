package api

import "time"

// Schema is the version of every JSON document below; it changes when a key
// changes its meaning or goes away.
const Schema = 1

// Status is the whole node at a glance: `effiscale status`, GET /status.
type Status struct {
	Schema     int             `json:"schema"`
	Version    string          `json:"version"`
	Node       NodeView        `json:"node"`
	Cluster    *ClusterView    `json:"cluster,omitempty"` // nil: there is none
	Services   []ServiceView   `json:"services"`
	Containers []ContainerView `json:"containers"`
	Summary    Summary         `json:"summary"`
	// Problems are what a person should look at, each with the setting to change.
	Problems []string `json:"problems"`
	// ProblemKinds counts those of this host, for the metrics.
	ProblemKinds map[string]int `json:"-"`
	// Degraded: something that should work does not (exit code 3).
	Degraded bool `json:"degraded"`
}

// NodeView is the daemon and its host.
type NodeView struct {
	ID             string    `json:"id"`
	Name           string    `json:"name"`
	Mode           string    `json:"mode"`
	StartedAt      time.Time `json:"started_at"`
	Ready          bool      `json:"ready"`
	SafeMode       bool      `json:"safe_mode"`
	CPUs           int       `json:"cpus"`
	CPUUsed        float64   `json:"cpu_used"` // cores, whole host
	MemoryBytes    int64     `json:"memory_bytes"`
	MemoryUsed     int64     `json:"memory_used_bytes"`
	PoolCPU        float64   `json:"pool_cpu"`         // cores that the pool may grant
	PoolCPUGranted float64   `json:"pool_cpu_granted"` // cores granted as quota
	Engine         string    `json:"engine"`           // "connected", "unreachable for 12s: …"
	EngineVersion  string    `json:"engine_version"`
	APIVersion     string    `json:"api_version"`
	Stopping       bool      `json:"stopping,omitempty"`       // an orderly stop is in progress
	EngineAddress  string    `json:"engine_address,omitempty"` // with what named it: "unix:///… (the default)"
	Cgroup         string    `json:"cgroup"`                   // "v1 cgroupfs", "v2 systemd", "hybrid cgroupfs"
	Actuator       string    `json:"actuator"`                 // "kernel", "engine"
	Source         string    `json:"source"`                   // "kernel files", "engine stats: why"
	Store          string    `json:"store"`                    // "ok", "degraded: disk full"
	Members        int       `json:"members"`
	ConfigFile     string    `json:"config_file"` // "" : defaults
}

// ServiceView is one service, of this host or of one that this node knows of.
type ServiceView struct {
	Name        string   `json:"name"`
	Owner       string   `json:"owner"`          // name of the node that plans for it
	Term        string   `json:"term,omitempty"` // the owner's, as this host obeys it
	Warm        []string `json:"warm,omitempty"` // names of the next owners, in their order
	Containers  []string `json:"containers"`
	CPUUsed     float64  `json:"cpu_used"`
	CPULimit    *float64 `json:"cpu_limit"` // nil: unlimited
	MemoryUsed  int64    `json:"memory_used_bytes"`
	MemoryLimit *int64   `json:"memory_limit_bytes"`
	Paused      string   `json:"paused"` // "", "until …", "down until …": on all hosts that run it
	// Pauses are the hosts on which it is paused, and how, where it is not the same on all.
	Pauses map[string]string `json:"pauses,omitempty"`
	// Forecast is what is expected of it in the next five minutes; nil: nothing.
	Forecast *Forecast `json:"forecast,omitempty"`
	// Pattern is the course of its demand, or a leak of its memory; nil: not known.
	Pattern *Pattern `json:"pattern,omitempty"`
}

// Pattern is a course that has a name.
type Pattern struct {
	Kind       string  `json:"kind"` // steady, spike, ramp, periodic, bursty, leak, idle, step
	Confidence float64 `json:"confidence"`
	Period     float64 `json:"period_seconds"` // of periodic
	Why        string  `json:"why"`            // the evidence
}

// Forecast is what is expected of a service's CPU demand, as the highest second of
// its busiest container within the horizon, and how well such forecasts came true.
type Forecast struct {
	Horizon   float64 `json:"horizon_seconds"`
	Expected  float64 `json:"expected_cores"`
	Upper     float64 `json:"upper_cores"` // stays under it with a chance of Level
	Level     float64 `json:"level"`
	Coverage  float64 `json:"coverage"` // share of the time in which such bounds held
	Gain      float64 `json:"gain"`     // error under that of "same as now", 0..1; negative: over it
	ScoredFor float64 `json:"scored_seconds"`
	Member    string  `json:"member"`           // the method that does best
	Period    float64 `json:"period_seconds"`   // 0: none was found
	Capped    bool    `json:"capped,omitempty"` // more was expected than the host has
	Trusted   bool    `json:"trusted"`          // better than "same as now" for an hour, with honest bounds
}

// ContainerView is one container: use, limit, what goes on and why.
type ContainerView struct {
	ID           string   `json:"id"`
	Name         string   `json:"name"`
	Host         string   `json:"host,omitempty"` // name of its node; "": this one
	Service      string   `json:"service"`
	Mode         string   `json:"mode"`
	Managed      bool     `json:"managed"`
	Class        string   `json:"class"`
	Run          string   `json:"run"` // the Engine's state
	Health       string   `json:"health"`
	CPUUsed      float64  `json:"cpu_used"`
	CPULimit     *float64 `json:"cpu_limit"`  // nil: unlimited
	CPUWanted    *float64 `json:"cpu_wanted"` // would-be limit; nil: not known yet
	Throttled    float64  `json:"throttled_ratio"`
	MemoryUsed   int64    `json:"memory_working_set_bytes"`
	MemoryLimit  *int64   `json:"memory_limit_bytes"`
	MemoryWanted *int64   `json:"memory_wanted_bytes"`
	// CPUStart and MemoryStart are what it starts with, by the Engine's record; nil:
	// unlimited, or not known.
	CPUStart    *float64 `json:"cpu_start"`
	MemoryStart *int64   `json:"memory_start_bytes"`
	// State is one or two words: "steady", "growing", "shrinking", "starting",
	// "limited", "observing", "paused", "yielding", "blocked", "unmeasured", "off",
	// "paused (docker)", "frozen", "waiting for memory".
	State      string    `json:"state"`
	Why        string    `json:"why"`
	LastChange *Change   `json:"last_change"`
	Problems   []string  `json:"problems"`
	SampledAt  time.Time `json:"sampled_at"`

	Detail ContainerDetail `json:"-"` // of a container of this host, for the metrics
}

// Change is one past change in a line.
type Change struct {
	At       time.Time `json:"at"`
	Kind     string    `json:"kind"`     // "resize", "create", "start", "stop", "remove", "restart"; "" is "resize"
	Resource string    `json:"resource"` // of a resize: "cpu", "memory"
	Verb     string    `json:"verb"`     // of a resize: "grow", "shrink", "hold"
	// Start: the resize is of what the container starts with, and not of what is in force.
	Start       bool    `json:"start,omitempty"`
	Actor       string  `json:"actor"`
	From        int64   `json:"from"` // nano-cores or bytes; 0: none
	To          int64   `json:"to"`
	Count       int     `json:"count"` // folded quota moves
	Result      string  `json:"result"`
	Why         string  `json:"why"`
	Message     string  `json:"message,omitempty"`
	Seq         uint64  `json:"seq"`
	Container   string  `json:"container"` // name
	ContainerID string  `json:"container_id"`
	TookMS      float64 `json:"took_ms"`
	Host        string  `json:"host,omitempty"` // in a history of several hosts
	Image       string  `json:"image,omitempty"`
	Template    string  `json:"template,omitempty"` // the container that one was created from
	Slot        int     `json:"slot,omitempty"`     // its number among the replicas on its host
	TimeoutS    float64 `json:"timeout_s,omitempty"`
}

// Summary counts the last hour.
type Summary struct {
	Actions       int     `json:"actions"`
	Failed        int     `json:"failed"`
	Reverted      int     `json:"reverted"`
	DriftRepaired int     `json:"drift_repaired"`
	SavedCPU      float64 `json:"saved_cpu"` // cores now reserved less than originally (negative: more)
	SavedMemory   int64   `json:"saved_memory_bytes"`
}

// Condition is one statement about a container, as kubectl would print it.
type Condition struct {
	Type    string    `json:"type"`
	Status  bool      `json:"status"`
	Since   time.Time `json:"since"`
	Reason  string    `json:"reason"` // the rule
	Message string    `json:"message"`
}

// Signal is one measured thing with its unit.
type Signal struct {
	Name  string  `json:"name"`
	Value float64 `json:"value"`
	Unit  string  `json:"unit"` // "cores", "bytes", "ratio", "percent", "bytes/s", "count", "seconds"
}

// Threshold is a number that a signal is held against.
type Threshold struct {
	Name   string  `json:"name"`
	Value  float64 `json:"value"`
	Unit   string  `json:"unit"`
	Why    string  `json:"why,omitempty"`
	Source string  `json:"source"` // "default", "class", "label", "policy", "learned", "image", "forecast"
	// Steers is of a threshold that is learned: whether it moves the limit now; Why
	// says why not.
	Steers  *bool             `json:"steers,omitempty"`
	Changes []ThresholdChange `json:"changes,omitempty"` // newest first
}

// ThresholdChange is one move of a learned threshold, and the observations that made
// it: for so many seconds, older ones discounted, use of the limit was Use, and the
// share Harm of them was held back.
type ThresholdChange struct {
	At      time.Time `json:"at"`
	Was     float64   `json:"was"`
	Now     float64   `json:"now"`
	Use     float64   `json:"use"`
	Seconds float64   `json:"seconds"`
	Harm    float64   `json:"harm"`
}

// Verdict is what one guard decides on the present request.
type Verdict struct {
	Guard    string `json:"guard"`
	Resource string `json:"resource"`
	Allowed  bool   `json:"allowed"`
	Message  string `json:"message"`
}

// Wish is what the planner wants for one resource, and what came of it.
type Wish struct {
	Resource string    `json:"resource"`
	Current  int64     `json:"current"` // 0: unlimited
	Wanted   int64     `json:"wanted"`  // before the guards
	Allowed  int64     `json:"allowed"` // after them
	Verb     string    `json:"verb"`
	Rule     string    `json:"rule"`
	Why      string    `json:"why"`
	Since    time.Time `json:"since"` // since when this rule holds
}

// Explain is everything about one container: `effiscale explain`, GET /explain/{name}.
type Explain struct {
	Schema     int           `json:"schema"`
	Container  ContainerView `json:"container"`
	Node       string        `json:"node"`
	Owner      string        `json:"owner"`
	OwnerState string        `json:"owner_state,omitempty"` // as MemberView.Status, or another remark
	Term       string        `json:"term,omitempty"`
	Warm       []string      `json:"warm,omitempty"` // names of the next owners, in their order
	// IntentAge is how long ago the owner last confirmed what it plans for this
	// host; 0: the owner is here, or it has sent nothing yet.
	IntentAge    float64      `json:"intent_age_seconds,omitempty"`
	ManagedSince time.Time    `json:"managed_since"`
	Signals      []Signal     `json:"signals"`
	Thresholds   []Threshold  `json:"thresholds"`
	Wishes       []Wish       `json:"wishes"`
	Verdicts     []Verdict    `json:"guards"`
	Rejected     []string     `json:"rejected"`
	Forecasts    []Forecast   `json:"forecasts,omitempty"`
	Patterns     []Pattern    `json:"patterns,omitempty"` // of demand, and of memory where it has one
	Envelope     EnvelopeView `json:"envelope"`
	Conditions   []Condition  `json:"conditions"`
	// Runtime is the program that was recognised by its process; null: none was.
	Runtime *RuntimeView `json:"runtime,omitempty"`
	// ServiceLabels are what the labels say of the service as a whole; nothing acts on
	// them yet.
	ServiceLabels []Label  `json:"service_labels,omitempty"`
	History       []Change `json:"history"`
	LimitsInForce
}

// LimitsInForce are the original limits of a container, what it starts with by the Engine's
// record, and what is in force in the kernel.
type LimitsInForce struct {
	OriginalKept   bool     `json:"original_kept"` // false: nothing was ever changed, nothing is to be restored
	OriginalCPU    *float64 `json:"original_cpu"`
	OriginalMemory *int64   `json:"original_memory_bytes"`
	// When the knowledge file with the original limit was lost: it is null then, and unknown.
	OriginalCPULost    time.Time `json:"original_cpu_lost_at,omitzero"`
	OriginalMemoryLost time.Time `json:"original_memory_lost_at,omitzero"`
	EngineCPU          *float64  `json:"engine_cpu"`
	KernelCPU          *float64  `json:"kernel_cpu"`
	EngineMemory       *int64    `json:"engine_memory_bytes"`
	KernelMemory       *int64    `json:"kernel_memory_bytes"`
}

// RuntimeView is a program that sizes itself when it starts.
type RuntimeView struct {
	Name    string `json:"name"`
	Process string `json:"process"`
	Fixed   string `json:"fixed_at_start"`
	Set     string `json:"set"`
	// Advice offers a restart where the limits differ from those that it sized itself by.
	Advice string `json:"advice,omitempty"`
}

// Label is a label of a container, as it was understood.
type Label struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// EnvelopeView is the range in which the reflex moves.
type EnvelopeView struct {
	CPUFloor       float64 `json:"cpu_floor"`
	CPUCeiling     float64 `json:"cpu_ceiling"`
	ThrottleTarget float64 `json:"throttle_target"`
	MemoryWanted   int64   `json:"memory_wanted_bytes"`
	MemoryFloor    int64   `json:"memory_floor_bytes"`
	MemoryCeiling  int64   `json:"memory_ceiling_bytes"`
	Learned        bool    `json:"learned"`
	Why            string  `json:"why"`
	Forecast       string  `json:"forecast"` // what a forecast adds to the floor, or why none does
	// Threshold is what a learned threshold adds to the floor, ThresholdFloor, and
	// leaves of a cut, CutFloor, in cores; absent: none steers, Thresholds say why.
	Threshold      string    `json:"threshold,omitempty"`
	ThresholdFloor float64   `json:"threshold_floor,omitempty"`
	CutFloor       float64   `json:"cut_floor,omitempty"`
	At             time.Time `json:"at"`
}

// History is `effiscale history`, GET /records/{name}.
type History struct {
	Schema  int      `json:"schema"`
	Name    string   `json:"name"`
	Changes []Change `json:"changes"`
	Notes   []string `json:"notes,omitempty"` // hosts whose part is missing
}

// PlanItem is one line of the plan.
type PlanItem struct {
	Container string `json:"container"`
	Service   string `json:"service"`
	// Mark is "~" change, "." would change but the mode forbids it, "=" hold, "!" refused.
	Mark     string `json:"mark"`
	Resource string `json:"resource"`
	From     int64  `json:"from"`
	To       int64  `json:"to"`
	Why      string `json:"why"`
	Guard    string `json:"guard,omitempty"` // the guard that stopped or cut it
	Host     string `json:"host,omitempty"`  // in a plan of several hosts
}

// Plan is what the daemon would do now: `effiscale plan`, GET /plan.
type Plan struct {
	Schema int        `json:"schema"`
	At     time.Time  `json:"at"`
	Items  []PlanItem `json:"items"`
	// Changes counts the items marked "~" (exit code 4 when above 0).
	Changes int      `json:"changes"`
	Hosts   []string `json:"hosts,omitempty"` // whose plan it is
	// NotReached are hosts that may have something to do and could not be asked.
	NotReached []string `json:"not_reached,omitempty"`
}

// Trace is the demand of a service in even steps, all its containers together:
// `effiscale export`. A step of which nothing is on record has the value of the one
// before it.
type Trace struct {
	Schema   int       `json:"schema"`
	Service  string    `json:"service"`
	Resource string    `json:"resource"`
	Unit     string    `json:"unit"` // "cores", "bytes"
	Start    time.Time `json:"start"`
	Step     float64   `json:"step_seconds"`
	Values   []float64 `json:"values"` // cpu: the mean of each step; memory: the highest
	Peaks    []float64 `json:"peaks"`  // the highest second of each step
	Gaps     int       `json:"gaps"`
	Filled   int       `json:"filled_steps"` // in those gaps
	// Throttled steps hold an estimate of what would have been used.
	Throttled int    `json:"throttled_steps"`
	Host      string `json:"host,omitempty"` // whose record it is
	// Policy is the label of the CPU policy in force, "" where nothing of it runs.
	Policy string `json:"policy,omitempty"`
	// Elsewhere are other hosts on which the service runs; they have records of their own.
	Elsewhere []string `json:"elsewhere,omitempty"`
}

// ScaleResult is what was done; Notes name what a guard reduced and why.
type ScaleResult struct {
	CPUQuota  int64    `json:"cpu_quota"`  // microseconds per period; -1: no limit
	CPUPeriod int64    `json:"cpu_period"` // microseconds
	Memory    int64    `json:"memory"`     // bytes; 0: no limit
	Notes     []string `json:"notes,omitempty"`
	Changes   []Change `json:"changes,omitempty"`
	Host      string   `json:"host,omitempty"` // where, when it is not the host that was asked
}

// PauseResult lists the hosts where a pause, or its end, is in force: POST /pause.
type PauseResult struct {
	Status  string   `json:"status"`  // "done"
	Service string   `json:"service"` // "": all
	Hosts   []string `json:"hosts"`
	// NotReached are hosts that could not be reached.
	NotReached []string `json:"not_reached"`
	// NotPaused: what was resumed was not paused. HoldsEnded are containers whose limits were
	// kept after a change of them, and are no more.
	NotPaused  bool     `json:"not_paused,omitempty"`
	HoldsEnded []string `json:"holds_ended,omitempty"`
}

// RestoreResult is what `effiscale restore` did.
type RestoreResult struct {
	Schema   int      `json:"schema"`
	Restored []Change `json:"restored"`
	Failed   []string `json:"failed"`
	Nothing  bool     `json:"nothing"` // nothing had been changed
	Paused   bool     `json:"paused"`  // automation of what was named is paused there, so that it stays so
	Host     string   `json:"host"`    // where it was done
}

// Metric is the wire contract's metric object (shared API contract).
type Metric struct {
	ContainerID    string    `json:"container_id"` // as it was asked for
	CPUUsage       float64   `json:"cpu_usage"`    // cores in use
	MemoryUsage    float64   `json:"memory_usage"` // share of the limit (of the host when unlimited)
	NetworkRx      uint64    `json:"network_rx"`
	NetworkTx      uint64    `json:"network_tx"`
	DiskRead       uint64    `json:"disk_read"`
	DiskWrite      uint64    `json:"disk_write"`
	Timestamp      time.Time `json:"timestamp"`
	CPULimit       *float64  `json:"cpu_limit"`
	CPUUtilization *float64  `json:"cpu_utilization"`
	ThrottledRatio float64   `json:"throttled_ratio"`
	WorkingSet     int64     `json:"memory_working_set"`
	MemoryLimit    *int64    `json:"memory_limit"`
	CPUPressure    *float64  `json:"cpu_pressure"` // share of time, 0..1
	MemoryPressure *float64  `json:"memory_pressure"`
	IOPressure     *float64  `json:"io_pressure"`
	Pids           int64     `json:"pids"`
	OOMKills       uint64    `json:"oom_kills"`
}

// Predictions is the wire contract's forecast; Insufficient: too little data.
type Predictions struct {
	CPU, Memory  []float64
	Insufficient bool
}

// OldConfig is one side of a wire history record.
type OldConfig struct {
	CPUQuota  int64 `json:"cpu_quota"`
	CPUPeriod int64 `json:"cpu_period"`
	Memory    int64 `json:"memory"`
}

// WireRecord is one record of GET /history/{container_id} of the execution service.
type WireRecord struct {
	ContainerID string    `json:"container_id"`
	Timestamp   time.Time `json:"timestamp"`
	ScalingType string    `json:"scaling_type"`
	Direction   string    `json:"direction"`
	OldConfig   OldConfig `json:"old_config"`
	NewConfig   OldConfig `json:"new_config"`
	Outcome     string    `json:"outcome"`
	Reason      string    `json:"reason"`
}

// ContainerPlan is the controller's answer about one container.
type ContainerPlan struct {
	Action      string // scale_up, scale_down, no_action
	Reason      string
	Confidence  float64
	Plan        []PlanItem
	Controllers []string
	Forecast    *Forecast // of the next five minutes; nil: none
	Pattern     *Pattern  // nil: not known
}

// Check is one finding of `effiscale doctor`.
type Check struct {
	Name     string `json:"name"`
	OK       bool   `json:"ok"`
	Severity string `json:"severity"` // of a failure: "error" (it cannot work), "warning" (it works worse)
	Detail   string `json:"detail"`   // what was found
	Remedy   string `json:"remedy"`   // what to do, when not OK
}
