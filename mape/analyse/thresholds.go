package analyse

import (
	"time"

	"github.com/effiscale/effiscale/knowledge"
)

// The thresholds of analysis; planning holds itself to the same ones.
const (
	// WarmSamples is how many readings a window needs: two make one rate, three
	// make a second one to compare it with.
	WarmSamples = 3
	// AbsurdRun is how many readings in a row must make no sense before nothing
	// is decided: one is a race between two kernel files, three are a fault.
	AbsurdRun = 3

	// ThrottleTolerance is α of Autothrottle's local controller (NSDI'24, section 3.3.2):
	// the quota grows when the throttle ratio is above α times its target. With the
	// default target of 6 %: above 18 %, two throttled periods of ten.
	ThrottleTolerance = 3.0

	// BoostHeld is the share of the quota that must be held back in the throttled
	// periods for a boost after the first of them. At a quota of 1 core, 4 busy
	// threads hold back 3 cores (300 %): no doubt. One thread that misses the end
	// of a period by 10 ms holds back 0.1 core (10 %): wait for a second one.
	BoostHeld = 0.2
	// BoostRun is how many throttled periods in a row boost without that.
	BoostRun = 2
	// WholePeriod is how much of a period an interval must cover for its held
	// back time to be a rate; a tenth is left for a timer that fires early.
	WholePeriod = 0.9

	// TightRatio of use to limit is near the limit, for CPU and memory; the CPU
	// controller's cut keeps the same distance (p ≤ 0.9 · quota).
	TightRatio = 0.9
	// RoomyRatio of the highest recent use to limit is clearly more than needed.
	RoomyRatio = 0.5
	// EventRatio of use to limit makes a reclaim at the limit a sign of need, where the
	// detail is not known that tells page cache from need.
	EventRatio = 0.7
	// NeedyRatio of memory that cannot be reclaimed to the limit makes waiting for memory a
	// sign of need without refaults: there is little else that reclaim could take.
	NeedyRatio = 0.8
	// NoCacheRatio of page cache to limit is next to none.
	NoCacheRatio = 0.05
	// RefaultsHigh is the rate of refaults (pages that were reclaimed and are read again), a
	// second, from which on page cache is needed: 1 MiB/s. RefaultsFlat is next to none: 40 KiB/s.
	RefaultsHigh, RefaultsFlat = 256, 10
	// IdleCPU is next to nothing: 1 % of a core.
	IdleCPU = knowledge.OneCPU / 100
	// IdleMemory is what an idle process of any runtime holds.
	IdleMemory = 16 * knowledge.MiB

	// FullSoon is the time to a full memory limit that must not be waited for.
	// An update of the limit takes 50 to 100 ms, a reading comes once a second:
	// 10 s leave nine chances.
	FullSoon = 10 * time.Second
	// FullNever is where a time to full is no longer worth naming.
	FullNever = 24 * time.Hour

	// PressureHigh is PSI memory "some avg10" in percent above which a container
	// waits for memory; PressureCalm is "some avg60" below which it does not.
	PressureHigh, PressureCalm = 1.0, 0.1
	// PressureLong is "some avg10" that counts without a further sign.
	PressureLong = 10.0
)
