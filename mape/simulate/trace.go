package simulate

import (
	"errors"
	"fmt"
	"time"
)

// Unit is what the values of a trace count.
type Unit uint8

// The units.
const (
	UnitCores Unit = iota // CPU work, in cores
	UnitRPS               // requests per second, each WorkPerRequest of CPU time
	UnitBytes             // memory
)

// Units are the names of the units, in their order.
func Units() []string { return []string{"cores", "rps", "bytes"} }

// ParseUnit reads the name of a unit.
func ParseUnit(name string) (Unit, error) {
	for i, u := range Units() {
		if u == name {
			return Unit(i), nil
		}
	}
	return 0, fmt.Errorf("unit %q: allowed are cores, rps and bytes", name)
}

func (u Unit) String() string { return Units()[min(int(u), len(Units())-1)] }

// WorkPerRequest is the CPU time of one request: 10 ms, so 100 requests per
// second keep one core busy.
const WorkPerRequest = 10 * time.Millisecond

// The bounds of a trace. A year of 30-s steps has 1.05 million rows; 4096 cores
// of 10-ms requests serve 409 600 a second; 1024 TiB are 1.1e15 bytes.
const (
	MaxRows    = 2_000_000
	MaxBytes   = 64 << 20
	MaxCores   = 4096.0
	MaxRPS     = 1e7
	MaxMemory  = 1 << 50
	MaxSeconds = 10 * 366 * 86400.0
	MinStep    = time.Millisecond
	MaxStep    = 24 * time.Hour
)

func (u Unit) most() float64 {
	switch u {
	case UnitRPS:
		return MaxRPS
	case UnitBytes:
		return MaxMemory
	}
	return MaxCores
}

// Trace is demand over time in even steps: Values[i] holds from i·Step until
// (i+1)·Step, in the unit's own measure.
type Trace struct {
	Name   string
	Unit   Unit
	Step   time.Duration
	Values []float64
	// Filled counts the values that are no row of the file.
	Filled int
}

// Errors of traces, for errors.Is.
var (
	ErrTrace = errors.New("bad trace")
	// ErrRepairable is a bad trace that filling repairs.
	ErrRepairable = fmt.Errorf("%w", ErrTrace)
)

// Length is how long the trace lasts.
func (t *Trace) Length() time.Duration { return time.Duration(len(t.Values)) * t.Step }

// demand is the trace in cores or bytes: what a policy has to provide.
func (t *Trace) demand() []float64 {
	if t.Unit != UnitRPS {
		return t.Values
	}
	out := make([]float64, len(t.Values))
	for i, v := range t.Values {
		out[i] = v * WorkPerRequest.Seconds()
	}
	return out
}
