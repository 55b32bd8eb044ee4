package simulate

import "strconv"

// StepsHeader is the first line of what AppendStep writes.
const StepsHeader = "seconds,policy,demand,allocated,replicas,served"

// AppendTrace writes a trace in the form that Parse reads.
func AppendTrace(b []byte, t *Trace) []byte {
	b = append(append(b, Header...), '\n')
	for i, v := range t.Values {
		b = appendNumber(b, float64(i)*t.Step.Seconds())
		b = append(b, ',')
		b = append(appendNumber(b, v), '\n')
	}
	return b
}

// AppendStep writes what a policy had in force in step i, in the trace's unit.
func AppendStep(b []byte, t *Trace, r *Result, i int) []byte {
	per := 1.0
	if t.Unit == UnitRPS {
		per = WorkPerRequest.Seconds()
	}
	s := r.Series
	b = appendNumber(b, float64(i)*t.Step.Seconds())
	b = append(append(append(b, ','), r.Policy...), ',')
	b = append(appendNumber(b, t.Values[i]), ',')
	b = append(appendNumber(b, s.Allocated[i]/per), ',')
	b = append(strconv.AppendInt(b, int64(s.Replicas[i]), 10), ',')
	return append(appendNumber(b, s.Served[i]/per), '\n')
}

// appendNumber writes ten significant digits: enough to sum up again, and without
// the noise of the eleventh.
func appendNumber(b []byte, v float64) []byte {
	if v == float64(int64(v)) && v < 1e15 {
		return strconv.AppendInt(b, int64(v), 10)
	}
	return strconv.AppendFloat(b, v, 'g', 10, 64)
}
