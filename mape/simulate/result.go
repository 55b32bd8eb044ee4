package simulate

// Result is one policy's replay of one trace.
type Result struct {
	Policy   string
	Series   *Series
	Score    Score
	Frontier *Frontier
}

// Shortages are the shares of demand left unserved at which slack is compared.
func Shortages() []float64 { return []float64{0.001, 0.01} }

// Replay replays a trace through one policy after the other.
func Replay(t *Trace, names []string, o Options) ([]Result, error) {
	out := make([]Result, 0, len(names))
	for _, name := range names {
		p, err := New(name, t, o)
		if err != nil {
			return nil, err
		}
		s := Run(t, p, o)
		out = append(out, Result{name, s, Judge(s, o), NewFrontier(s)})
	}
	return out, nil
}
