package execute

import (
	"time"

	"github.com/effiscale/effiscale/knowledge"
)

// Host is what the guards know of the machine; the loop keeps it current.
type Host struct {
	CPUs   int
	Memory knowledge.Bytes
	// CPUPool is the most cores that one container may have.
	CPUPool knowledge.NanoCPU
	// MemoryFree is what is left of the host's memory budget.
	MemoryFree knowledge.Bytes
	// EngineDown is when the Engine was lost; zero: it answers.
	EngineDown time.Time
	// EngineRestarted is when it last came back; nothing shrinks for EngineHold.
	EngineRestarted time.Time
	// Crashes above 0 is safe mode.
	Crashes int
	// Owned: other nodes, or this one as an owner, declare the envelopes.
	Owned bool
	// Late is how late the present tick is, when that is too late to decide.
	Late time.Duration
	// PutsBack: others put a container's whole record in force, as systemd does at each
	// daemon-reload where it holds the limits (cgroup v2).
	PutsBack bool
}

// PutsBack reports whether others put a record in force on this host.
func PutsBack(h *knowledge.Host) bool { return h.CgroupVersion == 2 && h.CgroupDriver == "systemd" }

// Rules are the bounds that configuration sets for every action.
type Rules struct {
	StepUp, StepDown float64 // factors of one step: 1.5, 0.7
	ActionsPerMinute int     // of one container, boosts not counted
	EvidenceAge      time.Duration
	// Actuator: whether the kernel file is written first.
	Actuator knowledge.Actuator
	// OwnerGrace is how long cuts go on without an owner's message; at least the
	// constant.
	OwnerGrace time.Duration
}

// all is all that the host has of a resource; the Engine sets it where it cannot remove a
// limit.
func (h *Host) all(r knowledge.Resource) int64 {
	if r == knowledge.ResourceMemory {
		return int64(h.Memory)
	}
	return int64(knowledge.NanoCPU(h.CPUs) * knowledge.OneCPU)
}

// EngineHold is how long nothing shrinks after the Engine came back: a mass exit
// is not a fall of demand.
const EngineHold = 5 * time.Minute

// OwnerGrace is how long an envelope allows cuts after its owner's last message, where
// reports do not come less often. Growth inside the last envelope needs no owner.
const OwnerGrace = 30 * time.Second

// Request is one decision that the guards are asked about.
type Request struct {
	Now       time.Time
	Decision  *knowledge.Decision
	Container *Container
	Host      *Host
	Rules     *Rules
}

func (req *Request) acts() bool {
	return req.Decision.Actor == knowledge.ActorReflex || req.Decision.Actor == knowledge.ActorDeliberation
}

func (req *Request) restores() bool {
	return req.Decision.Actor == knowledge.ActorRestore || req.Decision.Actor == knowledge.ActorRepair
}

// viaKernel: the change needs no Engine.
func (req *Request) viaKernel() bool {
	c := req.Container
	return req.Rules.Actuator == knowledge.ActuatorKernel && c.KernelRefused == "" && c.Probe != nil
}

// starts: the change is also one of what the container starts with.
func (req *Request) starts() bool {
	a := req.Decision.Actor
	return !req.viaKernel() || a == knowledge.ActorUser || a == knowledge.ActorRestore
}

// shrinks reports whether a value is below the present limit.
func (req *Request) shrinks(to int64) bool {
	return to != 0 && (req.Decision.From == 0 || to < req.Decision.From)
}

// nextStart: more memory after an OOM kill, without which the next start may end in the
// same way.
func (req *Request) nextStart(to int64) bool {
	return req.Decision.Reason.Rule == knowledge.RuleOOM && !req.shrinks(to)
}

// Guard is one reason for which a decision may not be done as it is. Check gets a value
// and returns the one that may pass, with the reason when it differs; returning the
// present limit stops the action.
type Guard struct {
	Name  string
	Check func(req *Request, to int64) (int64, knowledge.Reason)
}

// guards are asked in this order; each gets the value that the one before let pass.
var guards = [...]Guard{
	{"mode", guardMode},
	{"paused", guardPaused},
	{"safe-mode", guardSafeMode},
	{"late", guardLate},
	{"running", guardRunning},
	{"hazard", guardHazard},
	{"external-change", guardExternal},
	{"in-flight", guardInFlight},
	{"retry", guardRetry},
	{"engine", guardEngine},
	{"owner", guardOwner},
	{"evidence", guardEvidence},
	{"bounds", guardBounds},
	{"start-limit", guardStart},
	{"host-cpu", guardHostCPU},
	{"cgroup", guardCgroup},
	{"step", guardStep},
	{"working-set", guardWorkingSet},
	{"raised-floor", guardRaisedFloor},
	{"host-memory", guardHostMemory},
	{"refused", guardRefused},
	{"shrink-budget", guardBudget},
	{"rate", guardRate},
}

func guardMode(req *Request, to int64) (int64, knowledge.Reason) {
	p := &req.Container.Policy
	switch {
	case req.Decision.Actor == knowledge.ActorRestore && p.Claimed == "", to == req.Decision.From:
		return to, knowledge.Reason{}
	case len(p.Problems) > 0:
		return req.Decision.From, knowledge.Reason{Rule: knowledge.RuleBadLabel, Note: p.Problems[0]}
	case !p.Managed:
		return req.Decision.From, knowledge.Because(knowledge.RuleNotManaged)
	case p.Mode != knowledge.ModeAuto:
		return req.Decision.From, knowledge.Reason{Rule: knowledge.RuleMode, Note: p.Mode.String()}
	case p.Claimed != "":
		return req.Decision.From, knowledge.Reason{Rule: knowledge.RuleClaimed, Note: p.Claimed}
	}
	return to, knowledge.Reason{}
}

func guardPaused(req *Request, to int64) (int64, knowledge.Reason) {
	p := req.Container.Pause
	if !req.acts() || !p.Active(req.Now) || (p.OnlyDown && !req.shrinks(to)) {
		return to, knowledge.Reason{}
	}
	r := knowledge.Because(knowledge.RulePaused)
	if !p.Until.IsZero() {
		r.Args[0] = p.Until.Sub(req.Now).Seconds()
	}
	if p.OnlyDown {
		r.Note = "down"
	}
	return req.Decision.From, r
}

func guardSafeMode(req *Request, to int64) (int64, knowledge.Reason) {
	if req.Host.Crashes > 0 && req.acts() {
		return req.Decision.From, knowledge.Because(knowledge.RuleSafeMode, float64(req.Host.Crashes))
	}
	return to, knowledge.Reason{}
}

func guardLate(req *Request, to int64) (int64, knowledge.Reason) {
	grows := req.Decision.Resource == knowledge.ResourceMemory && !req.shrinks(to) // what was read is of now
	if req.Host.Late > 0 && req.acts() && !grows {
		return req.Decision.From, knowledge.Because(knowledge.RuleLate, req.Host.Late.Seconds())
	}
	return to, knowledge.Reason{}
}

func guardRunning(req *Request, to int64) (int64, knowledge.Reason) {
	switch req.Container.State {
	case knowledge.StateRunning, knowledge.StatePaused:
		return to, knowledge.Reason{}
	case knowledge.StateExited, knowledge.StateCreated: // only recorded, and in force from the next start on
		if req.restores() || req.nextStart(to) {
			return to, knowledge.Reason{}
		}
	case knowledge.StateRestarting:
		if req.nextStart(to) {
			return to, knowledge.Reason{}
		}
	}
	return req.Decision.From, knowledge.Reason{Rule: knowledge.RuleNotRunning, Note: req.Container.State.String()}
}

func guardHazard(req *Request, to int64) (int64, knowledge.Reason) {
	for _, h := range req.Container.Hazards {
		allowed := false
		for _, a := range req.Container.Policy.Allow {
			allowed = allowed || a == h
		}
		if !allowed && !req.restores() {
			return req.Decision.From, knowledge.Reason{Rule: knowledge.RuleHazard, Note: h}
		}
	}
	return to, knowledge.Reason{}
}

func guardInFlight(req *Request, to int64) (int64, knowledge.Reason) {
	if req.Container.InFlight && req.Decision.Resource == knowledge.ResourceMemory {
		return req.Decision.From, knowledge.Because(knowledge.RuleInFlight)
	}
	return to, knowledge.Reason{}
}

func guardRetry(req *Request, to int64) (int64, knowledge.Reason) {
	at := req.Container.retry[req.Decision.Resource].at
	direct := req.Decision.Resource == knowledge.ResourceCPU && req.viaKernel()
	if !req.acts() || !req.Now.Before(at) || direct { // a refusal by the Engine must not stop growth
		return to, knowledge.Reason{}
	}
	return req.Decision.From, knowledge.Reason{
		Rule: knowledge.RuleRetry, Args: [4]float64{at.Sub(req.Now).Seconds()}, Note: req.Container.LastError,
	}
}

func guardEngine(req *Request, to int64) (int64, knowledge.Reason) {
	down := req.Host.EngineDown
	if down.IsZero() {
		if restarted := req.Host.EngineRestarted; req.acts() && req.shrinks(to) && !restarted.IsZero() &&
			req.Now.Sub(restarted) < EngineHold {
			return req.Decision.From, knowledge.Because(knowledge.RuleEngineRestart,
				(EngineHold - req.Now.Sub(restarted)).Seconds())
		}
		return to, knowledge.Reason{}
	}
	person := req.Decision.Actor == knowledge.ActorUser || req.Decision.Actor == knowledge.ActorRestore
	if req.viaKernel() && req.Container.OriginalKept && (person || !req.shrinks(to)) {
		return to, knowledge.Reason{}
	}
	return req.Decision.From, knowledge.Because(knowledge.RuleEngineDown, req.Now.Sub(down).Seconds())
}

func guardOwner(req *Request, to int64) (int64, knowledge.Reason) {
	since, grace := req.Now.Sub(req.Container.DeclaredAt), max(req.Rules.OwnerGrace, OwnerGrace)
	if !req.Host.Owned || !req.acts() || !req.shrinks(to) || !req.Container.DeclaredAt.IsZero() && since <= grace {
		return to, knowledge.Reason{}
	}
	if req.Container.DeclaredAt.IsZero() {
		since = 0
	}
	return req.Decision.From, knowledge.Because(knowledge.RuleNoOwner, since.Seconds(), grace.Seconds())
}

func guardEvidence(req *Request, to int64) (int64, knowledge.Reason) {
	if req.acts() && req.Container.Probe != nil && req.Container.Window.Have&knowledge.HasLimits == 0 {
		return req.Decision.From, knowledge.Because(knowledge.RuleNoLimits) // unknown is not "none"
	}
	if req.restores() || !req.shrinks(to) {
		return to, knowledge.Reason{}
	}
	age := req.Now.Sub(req.Container.Window.At)
	if req.Container.Window.Have&knowledge.HasCPU == 0 {
		return req.Decision.From, knowledge.Because(knowledge.RuleMissing)
	}
	if age > req.Rules.EvidenceAge {
		return req.Decision.From, knowledge.Because(knowledge.RuleEvidence, age.Seconds(), req.Rules.EvidenceAge.Seconds())
	}
	return to, knowledge.Reason{}
}

func guardBounds(req *Request, to int64) (int64, knowledge.Reason) {
	if req.restores() || to == req.Decision.From || (to == 0 && req.Container.Policy.CPUMode == knowledge.CPUWeight) {
		return to, knowledge.Reason{}
	}
	lo, hi := int64(req.Container.Policy.CPU.Min), int64(req.Container.Policy.CPU.Max)
	scale := 1e-9
	if req.Decision.Resource == knowledge.ResourceMemory {
		lo, hi, scale = int64(req.Container.Policy.Memory.Min), int64(req.Container.Policy.Memory.Max), 1
	}
	switch {
	case hi > 0 && to > hi:
		return hi, knowledge.Because(knowledge.RuleAtMax, float64(to)*scale, float64(hi)*scale)
	case to < lo:
		return lo, knowledge.Because(knowledge.RuleAtMin, float64(to)*scale, float64(lo)*scale)
	}
	return to, knowledge.Reason{}
}

// guardStart keeps what a container starts with above what the Engine requires at a start,
// and, where automation can only change that, above what a program needs to size itself.
func guardStart(req *Request, to int64) (int64, knowledge.Reason) {
	d, c := req.Decision, req.Container
	if to == 0 || to == d.From || !req.starts() {
		return to, knowledge.Reason{}
	}
	least := c.leastStart(d.Resource, false)
	rule, scale := knowledge.RuleReservation, 1.0
	if c.State.Runs() && req.acts() && req.shrinks(to) && least < c.leastStart(d.Resource, true) {
		least, rule = c.leastStart(d.Resource, true), knowledge.RuleStartFloor
	}
	if d.Resource == knowledge.ResourceCPU {
		scale = 1e-9
	}
	if to >= least {
		return to, knowledge.Reason{}
	}
	why := knowledge.Because(rule, float64(to)*scale, float64(least)*scale)
	if req.shrinks(to) && d.From != 0 && least >= d.From {
		return d.From, why
	}
	return least, why
}

func guardHostCPU(req *Request, to int64) (int64, knowledge.Reason) {
	most := req.Host.CPUPool
	if all := knowledge.NanoCPU(req.Host.CPUs) * knowledge.OneCPU; all > 0 { // the Engine takes no more
		most = min(most, all)
	}
	if req.Decision.Resource != knowledge.ResourceCPU || req.restores() || most == 0 || to <= int64(most) {
		return to, knowledge.Reason{}
	}
	return int64(most), knowledge.Because(knowledge.RuleHostCPU, knowledge.NanoCPU(to).Cores(), most.Cores())
}

func guardStep(req *Request, to int64) (int64, knowledge.Reason) {
	if !req.acts() || req.Decision.Boost || req.Decision.From == 0 || to == 0 {
		return to, knowledge.Reason{}
	}
	scale := 1e-9
	if req.Decision.Resource == knowledge.ResourceMemory {
		scale = 1
	}
	up, down := int64(float64(req.Decision.From)*req.Rules.StepUp), int64(float64(req.Decision.From)*req.Rules.StepDown)
	switch {
	case to > up:
		return up, knowledge.Because(knowledge.RuleStepUp, float64(to)*scale, float64(up)*scale)
	case to < down:
		return down, knowledge.Because(knowledge.RuleStepDown, float64(to)*scale, float64(down)*scale)
	}
	return to, knowledge.Reason{}
}

func guardWorkingSet(req *Request, to int64) (int64, knowledge.Reason) {
	if req.Decision.Resource != knowledge.ResourceMemory || !req.shrinks(to) || to == 0 {
		return to, knowledge.Reason{}
	}
	w := req.Container.Window.InUse()
	least := int64(w + knowledge.MemoryRoom(w))
	if req.Decision.Actor == knowledge.ActorRestore { // as far as it does not kill
		use := req.Container.Window.WorkingSet
		if req.Container.Window.Have&knowledge.HasMemoryStat != 0 && req.viaKernel() {
			use = req.Container.Window.Hard // page cache is given back before
		}
		w, least = use, int64(use+use/20)
	}
	if to >= least {
		return to, knowledge.Reason{}
	}
	r := knowledge.Because(knowledge.RuleWorkingSet, float64(to), float64(w), float64(least))
	if top := req.Container.Policy.Memory.Max; req.Decision.From != 0 && least >= req.Decision.From ||
		req.Decision.From == 0 && top > 0 && least > int64(top) {
		return req.Decision.From, r
	}
	return least, r
}

func guardRaisedFloor(req *Request, to int64) (int64, knowledge.Reason) {
	f := &req.Container.Marks.Raised[req.Decision.Resource]
	if !req.acts() || !req.shrinks(to) || to >= f.Value || !req.Now.Before(f.Until) {
		return to, knowledge.Reason{}
	}
	scale := 1e-9
	if req.Decision.Resource == knowledge.ResourceMemory {
		scale = 1
	}
	r := knowledge.Because(knowledge.RuleRaisedFloor, float64(to)*scale, float64(f.Value)*scale,
		f.Until.Sub(req.Now).Seconds())
	if req.Decision.From == 0 || f.Value >= req.Decision.From {
		return req.Decision.From, r
	}
	return f.Value, r
}

func guardHostMemory(req *Request, to int64) (int64, knowledge.Reason) {
	if req.Decision.Resource != knowledge.ResourceMemory || req.restores() || req.Decision.From == 0 ||
		to <= req.Decision.From {
		return to, knowledge.Reason{}
	}
	held := req.Decision.From
	if !req.Container.State.Runs() { // its next start takes all of it
		held = 0
	}
	more := knowledge.Bytes(to - held)
	if more <= req.Host.MemoryFree {
		return to, knowledge.Reason{}
	}
	r := knowledge.Because(knowledge.RuleHostMemory, float64(more), float64(max(req.Host.MemoryFree, 0)))
	room := req.Host.MemoryFree / (16 * knowledge.MiB) * (16 * knowledge.MiB)
	if held+int64(room) <= req.Decision.From {
		return req.Decision.From, r
	}
	return held + int64(room), r
}

func guardBudget(req *Request, to int64) (int64, knowledge.Reason) {
	if req.Decision.Resource != knowledge.ResourceMemory || !req.acts() || !req.shrinks(to) || req.Decision.From == 0 {
		return to, knowledge.Reason{}
	}
	m := &req.Container.Marks
	if m.Day != req.Now.Unix()/86400 || m.Shrinks < req.Container.Policy.ShrinksPerDay {
		return to, knowledge.Reason{}
	}
	return req.Decision.From, knowledge.Because(knowledge.RuleShrinkBudget, float64(m.Shrinks),
		float64(req.Container.Policy.ShrinksPerDay))
}

func guardRate(req *Request, to int64) (int64, knowledge.Reason) {
	if req.restores() || req.Decision.Boost || to == req.Decision.From || req.Rules.ActionsPerMinute <= 0 {
		return to, knowledge.Reason{}
	}
	if n := req.Container.rate.count(req.Now); n >= float64(req.Rules.ActionsPerMinute) {
		return req.Decision.From, knowledge.Because(knowledge.RuleRate, n, float64(req.Rules.ActionsPerMinute))
	}
	return to, knowledge.Reason{}
}

// turns reports whether to lies on the other side of the present limit than the decision.
func (req *Request) turns(to int64) bool {
	if to == req.Decision.From {
		return false
	}
	return Verb(req.Decision.From, to) != Verb(req.Decision.From, req.Decision.To)
}

// Admission is what the guards let pass of a decision.
type Admission struct {
	Allowed int64
	// Guard and Reason name the first guard that changed the value; empty: none.
	Guard  string
	Reason knowledge.Reason
	// Acted: it was done, or is in progress.
	Acted bool
}

// Admit asks the guards in order, and stops at the first that leaves nothing to do.
func Admit(req *Request) Admission {
	r := Admission{Allowed: req.Decision.To}
	for i := range guards {
		to, why := guards[i].Check(req, r.Allowed)
		if req.turns(to) { // a bound on the other side: a raise must not become a cut
			to = req.Decision.From
		}
		if !why.IsZero() && r.Guard == "" {
			r.Guard, r.Reason = guards[i].Name, why
		}
		r.Allowed = to
		if to == req.Decision.From {
			break
		}
	}
	return r
}

// GuardResult is one guard's answer, for explain.
type GuardResult struct {
	Guard   string
	Allowed bool
	Reason  knowledge.Reason
}

// Explain asks every guard about the decision as it is, also after one refused it.
func Explain(req *Request) []GuardResult {
	out := make([]GuardResult, 0, len(guards))
	for i := range guards {
		to, why := guards[i].Check(req, req.Decision.To)
		out = append(out, GuardResult{Guard: guards[i].Name, Allowed: to == req.Decision.To, Reason: why})
	}
	return out
}
