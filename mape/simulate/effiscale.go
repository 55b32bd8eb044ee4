package simulate

// EffiScale is the name of the policy that is the daemon's own deciding code.
const EffiScale = "effiscale"

// newEffiScale makes the daemon's own policy for one unit and axis.
func newEffiScale(t *Trace, o Options) Policy {
	switch {
	case t.Unit == UnitBytes:
		return newMemoryLoop(o)
	case o.Axis == Vertical:
		return newCPULoop(t, o)
	}
	return newReplicaLoop(o)
}

// effiScaleKnows reports whether the daemon decides on the unit and axis.
func effiScaleKnows(unit Unit, axis Axis) bool { return unit != UnitBytes || axis == Vertical }
