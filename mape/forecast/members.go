package forecast

// The members that predict the value; all but the last four predict the same for
// every horizon.
const (
	sayLast     = iota
	sayMean     // the first of the moving averages
	sayMedian   = sayMean + len(meanWeights)
	sayHolt     = sayMedian + 3
	sayFit      = sayHolt + 1
	saySeason   = sayFit + 1
	sayProfile  = saySeason + 1
	valueVoters = sayProfile + 1
)

// The members that predict the peak.
const (
	peakLast   = iota
	peakMax    // maximum of as long as the horizon
	peakMax2   // of twice as long
	peakLift   // the value, and what peaks were above it
	peakFit    // by regression
	peakBlocks // moving averages of past peaks
	peakBlocks2
	peakSeason // the highest of the last cycle, lifted
	peakVoters
)

// memberName is for the score.
func memberName(i int) string {
	return [valueVoters]string{
		"last value",
		"mean of about 1", "mean of about 5", "mean of about 10", "mean of about 20", "mean of about 100",
		"median of 5", "median of 15", "median of 61",
		"damped trend", "regression", "seasonal", "seasonal profile",
	}[i]
}

// view is what one horizon sees at one step.
type view struct {
	signal *signal
	season *seasonality
}

// features of the regression, in mean absolute steps: how far the value is from its
// averages, its last step, its trend, and what the last cycles did from here on.
func (h *horizon) features(w view, scale float64) vector {
	s := w.signal
	was := s.last
	if s.filled() > 1 {
		was = s.back(1)
	}
	then, profile := w.season.ahead(s, h.steps)
	x := vector{
		s.last - was, s.last - s.means[0], s.last - s.means[1], s.last - s.means[2],
		s.last - s.means[4], s.trend, then - s.last, profile - s.last,
	}
	for i := range x {
		x[i] = min(clipFeature, max(-clipFeature, x[i]/scale))
	}
	return x
}

// predictValues fills in each member's prediction of the value.
func (h *horizon) predictValues(w view, f *issued) {
	s, m := w.signal, &f.value.member
	m[sayLast] = s.last
	copy(m[sayMean:], s.means[:])
	m[sayMedian], m[sayMedian+1], m[sayMedian+2] = s.medianOf5(), s.median(s.middle[:]), s.median(s.sorted[:])
	m[sayHolt] = max(0, s.level+s.trend*h.damped)
	m[sayFit] = min(h.ceiling(s), max(0, s.last+f.scale*h.fit.value.weight.dot(&f.features)))
	m[saySeason], m[sayProfile] = w.season.ahead(s, h.steps)
}

// predictPeaks fills in each member's prediction of the peak.
func (h *horizon) predictPeaks(w view, f *issued) {
	s, m := w.signal, &f.peak.member
	m[peakLast] = s.last
	m[peakMax] = h.high
	m[peakMax2] = max(h.high, h.high2)
	m[peakLift] = f.predictedValue + h.lift
	m[peakFit] = min(h.ceiling(s), max(0, s.last+f.scale*h.fit.peak.weight.dot(&f.features)))
	m[peakBlocks], m[peakBlocks2] = h.blocks[0], h.blocks[1]
	m[peakSeason] = w.season.highest(s, h.steps) + h.lift
}

// ceiling of a regression: twice the highest of the recent values.
func (h *horizon) ceiling(s *signal) float64 {
	return 2 * max(h.high, h.high2, s.sorted[min(s.n, longMedian)-1])
}

// seasonality is the history in which a period was found, if one was.
type seasonality struct {
	fine, coarse bins
	cycle        cycle
	inCoarse     bool
}

func (z *seasonality) bins() *bins {
	if z.inCoarse {
		return &z.coarse
	}
	return &z.fine
}

// known is the length of the cycle that was found in one of the histories, or 0.
func (z *seasonality) known(coarse bool) int {
	if z.inCoarse != coarse {
		return 0
	}
	return z.cycle.bins
}

// ahead is what the last cycle and the mean of the last cycles have for steps from
// now, moved to today's level; without a period the last value.
func (z *seasonality) ahead(s *signal, steps int) (latest, profile float64) {
	latest, profile = s.last, s.last
	if z.cycle.bins == 0 {
		return latest, profile
	}
	b, now := z.bins(), s.n-1
	then, ok := b.latest(z.cycle, now+steps)
	here, seen := b.ago(z.cycle, now, 1)
	if ok && seen {
		latest = max(0, s.means[1]+then-here)
	}
	if p, ok := b.profile(z.cycle, now+steps); ok {
		profile = p
	}
	return latest, profile
}

// highest is the highest of at most eight places of the next steps in the last cycles.
func (z *seasonality) highest(s *signal, steps int) float64 {
	_, high := z.ahead(s, steps)
	if z.cycle.bins == 0 {
		return high
	}
	stride := max(1, steps/8)
	for i := stride; i < steps; i += stride {
		_, p := z.ahead(s, i)
		high = max(high, p)
	}
	return high
}
