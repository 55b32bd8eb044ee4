package analyse

import "github.com/effiscale/effiscale/knowledge"

// Runtimes are the names of the runtimes that are recognised, some of them twice.
func Runtimes() (names []string) {
	for _, r := range runtimes() {
		names = append(names, r.Name)
	}
	return names
}

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

// Marshal packs the table into KneeSize bytes.
func (k *Knee) Marshal() []byte {
	f := knowledge.PackFields(make([]byte, 0, KneeSize))
	k.fields(f)
	return f.Bytes()
}

// Unmarshal replaces the table. Bytes that Marshal does not write are
// knowledge.ErrEncoding, and the table stays as it was.
func (k *Knee) Unmarshal(b []byte) error {
	var n Knee
	f := knowledge.ReadFields(b)
	n.fields(f)
	if err := f.End("knee"); err != nil {
		return err
	}
	*k = n
	return nil
}
