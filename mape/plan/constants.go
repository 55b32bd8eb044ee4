package plan

import (
	"time"

	"github.com/effiscale/effiscale/knowledge"
)

// CPU. Thresholds that analysis shares (α, the boost's triggers, 0.9) are in
// package analyse.
const (
	// controlPeriod is the step of the margin: m grows by r − T each second
	// (Autothrottle, NSDI'24, section 3.3.2). An idle container is sampled every
	// 5 to 10 s: its margin then moves by as many seconds at once, marginTicks at
	// most, so that it forgets at the same pace as a busy one.
	controlPeriod = time.Second
	marginTicks   = 10
	// marginStart is m of a new container: the peak plus 3 deviations. With T = 6 % and no
	// throttling it reaches 0 in 50 s.
	marginStart = 3.0
	// marginMost stops the windup of a container that its ceiling or a full host
	// keeps throttled: an hour of r = 0.5 would make m 1584, and its next cut
	// would wait for seven hours of calm.
	marginMost = 6.0

	// cutMost is the least share of the quota that one cut leaves.
	cutMost = 0.5
	// One cut a second, as in Autothrottle: throttling by the last one must show.
	cutEvery = controlPeriod
	// cutReserve is a distance from the peak when the margin is 0: a load of exactly 1
	// core under a quota of exactly 1 is throttled by every interrupt that is charged to
	// it. It costs 5 % and saves the undo.
	cutReserve = 1.05
	// cutWindow is the use that a cut must have seen: 5 s, as in Autothrottle.
	cutWindow = 5 * time.Second
	// cutWaitLeast is how long after growth no cut is made: while the quota bound,
	// use was censored, and a window of 5 s must be free of it; twice that, so
	// that a load which swings with any period under 10 s never sees a cut.
	cutWaitLeast = 10 * time.Second
	// regrowWithin: growth so soon after a cut means that the cut was wrong, and the wait
	// before cuts doubles, up to cutWaitMost. A load with a period of 25 s is followed
	// down twice, then no more. After cutWaitReset without such growth the wait is
	// cutWaitLeast again.
	regrowWithin = 15 * time.Second
	cutWaitMost  = 160 * time.Second
	cutWaitReset = 5 * time.Minute
	// worthCut and cutWaitSmall: an unused quota takes nothing from other containers, so a cut
	// that saves less than a quarter of a core waits long after growth. A container that is idle
	// between health checks would else be cut after, and grow with, each of them.
	worthCut     = knowledge.OneCPU / 4
	cutWaitSmall = 20 * time.Minute
	// undoWithin is how long after a cut throttling undoes it; later throttling is new
	// demand, and the ordinary growth follows it.
	undoWithin = 10 * time.Second

	// boostStep, boostReserve and boostGuess: a boost goes to 1.15 · demand, where usage
	// before + 2 · the increase is the estimate of demand in the first throttled period of
	// a surge, and to 1.5 · quota at least. A step from 1 to 4 cores in the middle of a
	// period shows half of itself in that period: 1 core before, 2.5 cores of demand in
	// the mean, so 1 + 2 · 1.5 = 4, and the boost goes to 4.6 at once. The price: a step
	// at the very beginning of a period is seen whole, and boosted to 8; a quota is a
	// permission, not a reservation, and the controller cuts it after cutWaitLeast. By
	// steps of 1.5 alone (1, 1.5, 2.3, 3.4, 5.1) it takes four boosts, 450 ms in a fluid
	// model.
	boostStep    = 1.5
	boostReserve = 1.15
	boostGuess   = 2.0
	// boostAgain: within this time after a boost, use of TightRatio of the new quota over
	// one interval boosts again, without waiting for its period to end.
	boostAgain = 500 * time.Millisecond
	// boostFresh is the part of the newest interval that must be after the last growth for
	// another boost: throttling before it is about the old quota. A fifth is left for the
	// time of the write itself.
	boostFresh = 0.8

	// leastRatio and leastCPU: changes under max(2 %, 0.02 core) are not made.
	leastRatio = 0.02
	leastCPU   = knowledge.OneCPU / 50
	// roundRatio and roundCPU: how far the kernel's quota may be outside the envelope
	// without a change. systemd rounds up to whole percents of a CPU (0.01 core); without
	// this its 1.01 for our 1.005 would be cut again and again.
	roundRatio = 0.01
	roundCPU   = knowledge.OneCPU / 100
	// floorCPU is the least quota that the kernel takes: 1 ms in 100 ms.
	floorCPU = knowledge.OneCPU / 100

	// firstMargin is the margin above its highest use of a container's first limit, and of
	// a would-be limit without a profile: 1 core of use, 1.3.
	firstMargin = 1.3
	// wouldMargin is the margin above a learned percentile (VPA's safety margin).
	wouldMargin = 1.15
	// targetTolerance: use may be off the policy's target by a tenth (HPA).
	targetTolerance = 0.1
)

// Weights: cpu = "weight".
const (
	sharesPerCPU          = 1024 // Docker's default is one core's worth
	sharesMin, sharesMax  = 2, 262144
	weightDefault         = 50 // of 1..100; 100 doubles the shares
	weightMin, weightMost = 1, 100
	// sharesChange and sharesEvery: a share moves by a fifth or not at all, each
	// 30 s at most; between equals a few percent decide nothing.
	sharesChange = 0.2
	sharesEvery  = 30 * time.Second
)

// Memory.
const (
	// aheadRatio, horizonLeast and horizonReserve: growth must not fill the limit before the
	// next certain correction. That takes as long as the loop measured and half as long again,
	// and half a second at least: five readings while memory grows. At 100 MB/s that is 50 MB.
	aheadRatio     = 1.04
	horizonLeast   = 500 * time.Millisecond
	horizonReserve = 3 // halves
	// The margin d = 0.15 + 0.15/√(1 + minutes/10): 30 % at first, 26 % after
	// 10 min, 21 % after an hour, 16 % after a day.
	marginLeast, marginYoung, marginMinutes = 0.15, 0.15, 10.0
	// headroom is the least distance between a need and its limit, headroomRatio of it
	// where that is less, and headroomLeast for the smallest.
	headroom      = 64 * knowledge.MiB
	headroomRatio = 0.3
	headroomLeast = 8 * knowledge.MiB
	// firstRoom is what a reduction leaves above the use where the policy allows it. An idle
	// container shows nothing of its first load, which at 100 MB/s takes it in 0.64 s: the
	// interval of its readings is less (monitor.Cadence).
	firstRoom = 64 * knowledge.MiB
	// Where it was learned how use rises: a raise adds 22 % at least, so that a leak
	// of 5 % an hour is followed by a change each four hours; for keepRaised after it
	// only a shrink below worthRaised of the limit is made, else one below
	// worthLearned.
	growLearned, worthRaised, worthLearned = 0.22, 0.83, 0.95
	keepRaised                             = 4 * time.Hour
	// stepGrain is what a limit is rounded up to.
	stepGrain = knowledge.MiB
	// eventStep is the growth after reclaim at the limit or pressure, which show that it
	// is short but not by how much.
	eventStep = 1.2
	// oomStep and oomAdd: after an OOM kill max(1.2 · limit, limit + 100 MiB)
	// (Vertical Pod Autoscaler, its OOM bump-up ratio and minimum).
	oomStep = 1.2
	oomAdd  = 100 * knowledge.MiB
	// growLeast is the least growth worth a change.
	growLeast = 0.05
	// eventFresh is how long an event or pressure counts; after a raise it must be seen
	// again. PSI's avg10 halves in 7 s: after 10 s it is no longer about the old limit.
	eventFresh = 10 * time.Second
	// urgent is the time to a full limit that lifts the step bounds of the guards.
	urgent = 3 * time.Second
	// shrinkStep and shrinkEvery: at most 10 % at once, once a minute. A limit within 10 %
	// of the target is not changed.
	shrinkStep  = 0.9
	shrinkEvery = time.Minute
	// settleAfter is how long a container that was started again is watched before its
	// memory limit goes to what it was before: the pages of its program are read by then.
	settleAfter = 10 * time.Second
	// anonRoom is the margin above the 30-minute peak of anonymous memory: the need of
	// half an hour ago may return, and cannot be reclaimed.
	anonRoom = 1.25
	// followRatio: the deliberation's limit raises a limit only from 5 % on.
	followRatio = 1.05
	// leakStep, leakRuns, leakRise and leakFall: anonymous memory, read every 10 s, that
	// rose six times in a row by at least 0.5 % and never fell by 1 % only grows. A cache
	// that warms does so too; it is reported as a leak at the ceiling only.
	leakStep           = 10 * time.Second
	leakRuns           = 6
	leakRise, leakFall = 1.005, 0.99
)

// Deliberation.
const (
	// learnAfter is the observation that a learned floor needs, boundAfter what a
	// learned ceiling needs: a day has a peak hour.
	learnAfter = time.Hour
	boundAfter = 24 * time.Hour
	// boundRatio of the highest use ever is the learned ceiling, boundLeast its minimum: a
	// runaway process gets 4 times its peak, not the host. A real surge raises the peak,
	// and with it the ceiling, at the next deliberation.
	boundRatio = 4.0
	boundLeast = knowledge.OneCPU
	// envelopeUp and envelopeDown are the relative changes of a floor or of the memory
	// limit that an envelope ignores: less upwards, which is the safe side.
	envelopeUp, envelopeDown = 0.05, 0.1
	// reserveRatio and reserveLeast are the host's own memory: 10 %, 512 MiB at
	// least, but never more than half of a small host.
	reserveRatio = 0.1
	reserveLeast = 512 * knowledge.MiB
)

// poolSpare is the share of the pool that is always there to be granted above
// the minima. 100 idle containers with a floor of 0.05 core hold 5 cores on
// paper and use none; on 2 cores the one that works must still get its core.
const poolSpare = 0.5
