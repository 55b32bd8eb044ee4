package analyse

// Leak is what one look at memory shows, without the Tracker's inertia.
func Leak(s *Series) Pattern {
	var l leak
	if !l.read(s) {
		return short(l.points)
	}
	v := l.vote()
	k := v.best()
	return Pattern{Kind: k, Confidence: v[k], Evidence: l.evidence(k)}
}

// Recognise is what one look at the demand shows, without the Tracker's inertia.
func Recognise(s *Series) Pattern {
	var sh shape
	if !sh.read(s.CPU) {
		return short(sh.n)
	}
	v := sh.vote(s)
	k := v.best()
	return Pattern{Kind: k, Confidence: v[k], Period: sh.period(k, s), Evidence: sh.evidence(k, s)}
}
