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
	// MemoryFree is what the host's memory budget can still promise.
	MemoryFree knowledge.Bytes
	// EngineDown is when the Engine was lost; zero: it answers.
	EngineDown time.Time
	// EngineRestarted is when it last came back; nothing shrinks for a while.
	EngineRestarted time.Time
	// Crashes above 0 is safe mode.
	Crashes int
	// Owned: other nodes, or this one as an owner, declare the envelopes.
	Owned bool
	// Late is how late the present pass is, when that is too late to decide.
	Late time.Duration
}

// Rules are the bounds that configuration sets for every action.
type Rules struct {
	StepUp, StepDown float64 // factors of one step: 1.5, 0.7
	ActionsPerMinute int     // of one container, boosts not counted
	EvidenceAge      time.Duration
	// Actuator: whether the kernel file is written first.
	Actuator knowledge.Actuator
	// OwnerGrace is how long an owner may be silent; less than the constant is the
	// constant.
	OwnerGrace time.Duration
}

// EngineHold is how long nothing shrinks after the Engine came back: a mass exit
// is not a fall of demand.
const EngineHold = 5 * time.Minute

// OwnerGrace is how long an envelope that nobody confirms goes on to be trusted
// with cuts, where reports do not come less often. Growing inside the last one needs
// no owner.
const OwnerGrace = 30 * time.Second

// Case is one decision before its guards.
type Case struct {
	Now   time.Time
	D     *knowledge.Decision
	S     *Subject
	Host  *Host
	Rules *Rules
}

func (c *Case) acts() bool {
	return c.D.Actor == knowledge.ActorReflex || c.D.Actor == knowledge.ActorDeliberation
}

func (c *Case) repairs() bool {
	return c.D.Actor == knowledge.ActorRestore || c.D.Actor == knowledge.ActorRepair
}

// viaKernel: the change needs no Engine.
func (c *Case) viaKernel() bool {
	return c.D.Resource == knowledge.ResourceCPU && c.Rules.Actuator == knowledge.ActuatorKernel &&
		c.S.KernelRefused == "" && c.S.OriginalKept
}

// shrinks reports whether the value on the table takes something away.
func (c *Case) shrinks(to int64) bool {
	return to != 0 && (c.D.From == 0 || to < c.D.From)
}

// nextLife: more memory after an OOM kill, without which the next life may end as
// this one did.
func (c *Case) nextLife(to int64) bool {
	return c.D.Reason.Rule == knowledge.RuleOOM && !c.shrinks(to)
}

// Guard is one reason for which an action may not be done as wished. Check gets
// the value on the table and returns the one that may pass, with the reason when
// it differs; returning D.From stops the action.
type Guard struct {
	Name  string
	Check func(c *Case, to int64) (int64, knowledge.Reason)
}

// Guards are asked in this order; each sees what the one before let pass.
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
	{"host-cpu", guardHostCPU},
	{"step", guardStep},
	{"working-set", guardWorkingSet},
	{"raised-floor", guardRaisedFloor},
	{"host-memory", guardHostMemory},
	{"shrink-budget", guardBudget},
	{"rate", guardRate},
}

func guardMode(c *Case, to int64) (int64, knowledge.Reason) {
	p := &c.S.Policy
	switch {
	case c.D.Actor == knowledge.ActorRestore, to == c.D.From:
		return to, knowledge.Reason{}
	case len(p.Problems) > 0:
		return c.D.From, knowledge.Reason{Rule: knowledge.RuleBadLabel, Note: p.Problems[0]}
	case !p.Managed:
		return c.D.From, knowledge.Because(knowledge.RuleNotManaged)
	case p.Mode != knowledge.ModeAuto:
		return c.D.From, knowledge.Reason{Rule: knowledge.RuleMode, Note: p.Mode.String()}
	}
	return to, knowledge.Reason{}
}

func guardPaused(c *Case, to int64) (int64, knowledge.Reason) {
	p := c.S.Pause
	if !c.acts() || !p.Active(c.Now) || (p.OnlyDown && !c.shrinks(to)) {
		return to, knowledge.Reason{}
	}
	r := knowledge.Because(knowledge.RulePaused)
	if !p.Until.IsZero() {
		r.Args[0] = p.Until.Sub(c.Now).Seconds()
	}
	if p.OnlyDown {
		r.Note = "down"
	}
	return c.D.From, r
}

func guardSafeMode(c *Case, to int64) (int64, knowledge.Reason) {
	if c.Host.Crashes > 0 && c.acts() {
		return c.D.From, knowledge.Because(knowledge.RuleSafeMode, float64(c.Host.Crashes))
	}
	return to, knowledge.Reason{}
}

func guardLate(c *Case, to int64) (int64, knowledge.Reason) {
	if c.Host.Late > 0 && c.acts() {
		return c.D.From, knowledge.Because(knowledge.RuleLate, c.Host.Late.Seconds())
	}
	return to, knowledge.Reason{}
}

func guardRunning(c *Case, to int64) (int64, knowledge.Reason) {
	switch c.S.Container.State {
	case knowledge.StateRunning, knowledge.StatePaused:
		return to, knowledge.Reason{}
	case knowledge.StateExited, knowledge.StateCreated: // only stored, and in force at the next start
		if c.repairs() || c.nextLife(to) {
			return to, knowledge.Reason{}
		}
	case knowledge.StateRestarting:
		if c.nextLife(to) {
			return to, knowledge.Reason{}
		}
	}
	return c.D.From, knowledge.Reason{Rule: knowledge.RuleNotRunning, Note: c.S.Container.State.String()}
}

func guardHazard(c *Case, to int64) (int64, knowledge.Reason) {
	for _, h := range c.S.Container.Hazards {
		allowed := false
		for _, a := range c.S.Policy.Allow {
			allowed = allowed || a == h
		}
		if !allowed && !c.repairs() {
			return c.D.From, knowledge.Reason{Rule: knowledge.RuleHazard, Note: h}
		}
	}
	return to, knowledge.Reason{}
}

func guardExternal(c *Case, to int64) (int64, knowledge.Reason) {
	m := &c.S.Marks
	if !c.acts() || (!m.Pinned && !c.Now.Before(m.ExternalUntil)) {
		return to, knowledge.Reason{}
	}
	kills := c.S.Finding.Memory == knowledge.SymptomCritical || c.D.Reason.Rule == knowledge.RuleOOM && c.S.Window.LastOOM.After(m.ExternalUntil.Add(-c.S.Policy.YieldFor))
	if c.D.Boost && c.D.Resource == knowledge.ResourceMemory && kills && !m.Pinned {
		return to, knowledge.Reason{} // respect ends where the kernel begins to kill
	}
	r := knowledge.Because(knowledge.RuleExternal, m.ExternalUntil.Sub(c.Now).Seconds())
	if m.Pinned {
		r.Rule = knowledge.RulePinned
	}
	return c.D.From, r
}

func guardInFlight(c *Case, to int64) (int64, knowledge.Reason) {
	if c.S.InFlight && c.D.Resource == knowledge.ResourceMemory {
		return c.D.From, knowledge.Because(knowledge.RuleInFlight)
	}
	return to, knowledge.Reason{}
}

func guardRetry(c *Case, to int64) (int64, knowledge.Reason) {
	at := c.S.retryAt[c.D.Resource]
	if !c.acts() || !c.Now.Before(at) || c.viaKernel() { // an Engine that says no must not starve anybody
		return to, knowledge.Reason{}
	}
	return c.D.From, knowledge.Reason{
		Rule: knowledge.RuleRetry, Args: [4]float64{at.Sub(c.Now).Seconds()}, Note: c.S.LastError,
	}
}

func guardEngine(c *Case, to int64) (int64, knowledge.Reason) {
	down := c.Host.EngineDown
	if down.IsZero() {
		if restarted := c.Host.EngineRestarted; c.acts() && c.shrinks(to) && !restarted.IsZero() && c.Now.Sub(restarted) < EngineHold {
			return c.D.From, knowledge.Because(knowledge.RuleEngineRestart, (EngineHold - c.Now.Sub(restarted)).Seconds())
		}
		return to, knowledge.Reason{}
	}
	if c.viaKernel() && !c.shrinks(to) {
		return to, knowledge.Reason{}
	}
	return c.D.From, knowledge.Because(knowledge.RuleEngineDown, c.Now.Sub(down).Seconds())
}

func guardOwner(c *Case, to int64) (int64, knowledge.Reason) {
	since, grace := c.Now.Sub(c.S.Ruled), max(c.Rules.OwnerGrace, OwnerGrace)
	if !c.Host.Owned || !c.acts() || !c.shrinks(to) || !c.S.Ruled.IsZero() && since <= grace {
		return to, knowledge.Reason{}
	}
	if c.S.Ruled.IsZero() {
		since = 0
	}
	return c.D.From, knowledge.Because(knowledge.RuleNoOwner, since.Seconds(), grace.Seconds())
}

func guardEvidence(c *Case, to int64) (int64, knowledge.Reason) {
	if c.repairs() || !c.shrinks(to) {
		return to, knowledge.Reason{}
	}
	age := c.Now.Sub(c.S.Window.At)
	if c.S.Window.Have&knowledge.HasCPU == 0 {
		return c.D.From, knowledge.Because(knowledge.RuleMissing)
	}
	if age > c.Rules.EvidenceAge {
		return c.D.From, knowledge.Because(knowledge.RuleEvidence, age.Seconds(), c.Rules.EvidenceAge.Seconds())
	}
	return to, knowledge.Reason{}
}

func guardBounds(c *Case, to int64) (int64, knowledge.Reason) {
	if c.repairs() || to == c.D.From || (to == 0 && c.S.Policy.CPUMode == knowledge.CPUWeight) {
		return to, knowledge.Reason{}
	}
	lo, hi := int64(c.S.Policy.CPU.Min), int64(c.S.Policy.CPU.Max)
	scale := 1e-9
	if c.D.Resource == knowledge.ResourceMemory {
		lo, hi, scale = int64(c.S.Policy.Memory.Min), int64(c.S.Policy.Memory.Max), 1
	}
	switch {
	case hi > 0 && to > hi:
		return hi, knowledge.Because(knowledge.RuleAtMax, float64(to)*scale, float64(hi)*scale)
	case to < lo:
		return lo, knowledge.Because(knowledge.RuleAtMin, float64(to)*scale, float64(lo)*scale)
	}
	return to, knowledge.Reason{}
}

func guardHostCPU(c *Case, to int64) (int64, knowledge.Reason) {
	if c.D.Resource != knowledge.ResourceCPU || c.repairs() || c.Host.CPUPool == 0 || to <= int64(c.Host.CPUPool) {
		return to, knowledge.Reason{}
	}
	return int64(c.Host.CPUPool), knowledge.Because(knowledge.RuleHostCPU, knowledge.NanoCPU(to).Cores(), c.Host.CPUPool.Cores())
}

func guardStep(c *Case, to int64) (int64, knowledge.Reason) {
	if !c.acts() || c.D.Boost || c.D.From == 0 || to == 0 {
		return to, knowledge.Reason{}
	}
	scale := 1e-9
	if c.D.Resource == knowledge.ResourceMemory {
		scale = 1
	}
	up, down := int64(float64(c.D.From)*c.Rules.StepUp), int64(float64(c.D.From)*c.Rules.StepDown)
	switch {
	case to > up:
		return up, knowledge.Because(knowledge.RuleStepUp, float64(to)*scale, float64(up)*scale)
	case to < down:
		return down, knowledge.Because(knowledge.RuleStepDown, float64(to)*scale, float64(down)*scale)
	}
	return to, knowledge.Reason{}
}

func guardWorkingSet(c *Case, to int64) (int64, knowledge.Reason) {
	if c.D.Resource != knowledge.ResourceMemory || !c.shrinks(to) || to == 0 {
		return to, knowledge.Reason{}
	}
	w := max(c.S.Window.WorkingSet, c.S.Window.Hard)
	least := int64(w + knowledge.MemoryRoom(w))
	if c.repairs() { // the way back: as far as it does not kill
		least = int64(c.S.Window.WorkingSet + c.S.Window.WorkingSet/20)
	}
	if to >= least {
		return to, knowledge.Reason{}
	}
	r := knowledge.Because(knowledge.RuleWorkingSet, float64(to), float64(w), float64(least))
	if top := c.S.Policy.Memory.Max; c.D.From != 0 && least >= c.D.From || c.D.From == 0 && top > 0 && least > int64(top) {
		return c.D.From, r
	}
	return least, r
}

func guardRaisedFloor(c *Case, to int64) (int64, knowledge.Reason) {
	f := &c.S.Marks.Raised[c.D.Resource]
	if !c.acts() || !c.shrinks(to) || to >= f.Value || !c.Now.Before(f.Until) {
		return to, knowledge.Reason{}
	}
	scale := 1e-9
	if c.D.Resource == knowledge.ResourceMemory {
		scale = 1
	}
	r := knowledge.Because(knowledge.RuleRaisedFloor, float64(to)*scale, float64(f.Value)*scale, f.Until.Sub(c.Now).Seconds())
	if c.D.From == 0 || f.Value >= c.D.From {
		return c.D.From, r
	}
	return f.Value, r
}

func guardHostMemory(c *Case, to int64) (int64, knowledge.Reason) {
	if c.D.Resource != knowledge.ResourceMemory || c.repairs() || c.D.From == 0 || to <= c.D.From {
		return to, knowledge.Reason{}
	}
	held := c.D.From
	if !c.S.Container.State.Runs() { // its next life takes all of it
		held = 0
	}
	more := knowledge.Bytes(to - held)
	if more <= c.Host.MemoryFree {
		return to, knowledge.Reason{}
	}
	r := knowledge.Because(knowledge.RuleHostMemory, float64(more), float64(max(c.Host.MemoryFree, 0)))
	room := c.Host.MemoryFree / (16 * knowledge.MiB) * (16 * knowledge.MiB)
	if held+int64(room) <= c.D.From {
		return c.D.From, r
	}
	return held + int64(room), r
}

func guardBudget(c *Case, to int64) (int64, knowledge.Reason) {
	if c.D.Resource != knowledge.ResourceMemory || !c.acts() || !c.shrinks(to) || c.D.From == 0 {
		return to, knowledge.Reason{}
	}
	m := &c.S.Marks
	if m.Day != c.Now.Unix()/86400 || m.Shrinks < c.S.Policy.ShrinksPerDay {
		return to, knowledge.Reason{}
	}
	return c.D.From, knowledge.Because(knowledge.RuleShrinkBudget, float64(m.Shrinks), float64(c.S.Policy.ShrinksPerDay))
}

func guardRate(c *Case, to int64) (int64, knowledge.Reason) {
	if c.repairs() || c.D.Boost || to == c.D.From || c.Rules.ActionsPerMinute <= 0 {
		return to, knowledge.Reason{}
	}
	if n := c.S.rate.count(c.Now); n >= float64(c.Rules.ActionsPerMinute) {
		return c.D.From, knowledge.Because(knowledge.RuleRate, n, float64(c.Rules.ActionsPerMinute))
	}
	return to, knowledge.Reason{}
}

// turns reports whether to lies on the other side of the present limit than the wish.
func (c *Case) turns(to int64) bool {
	if to == c.D.From {
		return false
	}
	return Verb(c.D.From, to) != Verb(c.D.From, c.D.To)
}

// Ruling is what the guards made of a decision.
type Ruling struct {
	Allowed int64
	// Guard and Reason name the first guard that changed the value; empty: none.
	Guard  string
	Reason knowledge.Reason
	// Acted: it was done, or is on its way.
	Acted bool
}

// Judge asks every guard, and stops at the first that leaves nothing to do.
func Judge(c *Case) Ruling {
	r := Ruling{Allowed: c.D.To}
	for i := range guards {
		to, why := guards[i].Check(c, r.Allowed)
		if c.turns(to) { // a bound on the other side: a raise must not become a cut
			to = c.D.From
		}
		if !why.IsZero() && r.Guard == "" {
			r.Guard, r.Reason = guards[i].Name, why
		}
		r.Allowed = to
		if to == c.D.From {
			break
		}
	}
	return r
}

// Verdict is one guard's answer, for explain.
type Verdict struct {
	Guard   string
	Allowed bool
	Reason  knowledge.Reason
}

// Explain asks every guard about the wish as it is, also after one said no.
func Explain(c *Case) []Verdict {
	out := make([]Verdict, 0, len(guards))
	for i := range guards {
		to, why := guards[i].Check(c, c.D.To)
		out = append(out, Verdict{Guard: guards[i].Name, Allowed: to == c.D.To, Reason: why})
	}
	return out
}
