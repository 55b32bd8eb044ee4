package simulate

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// What a trace may not hold, and the place that the message names.
func TestParseRefuses(t *testing.T) {
	const head = "seconds,value\n"
	for _, c := range []struct {
		name, text, want string
		repairable       bool
	}{
		{"empty", "", "t.csv:1: the file is empty", false},
		{"only a mark", "\ufeff \n", "t.csv:1: the file is empty", false},
		{"no header", "0,1\n1,1\n", `t.csv:1: the first line is "0,1"`, false},
		{"no rows", head, "t.csv:1: 0 usable rows", false},
		{"one row", head + "0,1\n", "t.csv:2: 1 usable rows", false},
		{"three columns", head + "0,1\n1,1,1\n", "t.csv:3: \"1,1,1\" is not two numbers", false},
		{"one column", head + "0\n", "t.csv:2: \"0\" is not two numbers", false},
		{"a word for a time", head + "0,1\nnoon,1\n", `t.csv:3: seconds "noon"`, false},
		{"negative time", head + "-1,1\n0,1\n", `t.csv:2: seconds "-1"`, false},
		{"NaN time", head + "NaN,1\n", `t.csv:2: seconds "NaN"`, false},
		{"far future", head + "0,1\n1e12,1\n", `t.csv:3: seconds "1e12"`, false},
		{"NaN", head + "0,1\n1,NaN\n2,1\n", `t.csv:3: value "NaN"`, true},
		{"infinite", head + "0,1\n1,Inf\n2,1\n", `t.csv:3: value "Inf"`, true},
		{"negative", head + "0,1\n1,-1\n2,1\n", `t.csv:3: value "-1"`, true},
		{"more cores than there are", head + "0,1\n1,4097\n2,1\n",
			`t.csv:3: value "4097": allowed are numbers from 0 to 4096 cores`, false},
		{"no value", head + "0,1\n1,\n2,1\n", `t.csv:3: value ""`, true},
		{"out of order", head + "0,1\n2,1\n1,1\n3,1\n", "t.csv:4: 1 s comes after 2 s", true},
		{"twice", head + "0,1\n1,1\n1,2\n2,1\n", "t.csv:4: 1 s comes after 1 s", true},
		{"a hole", head + "0,1\n1,1\n2,1\n5,1\n", "t.csv:5: 2 rows are missing before 5 s", true},
		{"uneven", head + "0,1\n1,1\n2,1\n3.4,1\n4,1\n", "t.csv:5: 3.4 s is not a whole number", true},
		{"too fine", head + "0,1\n0.0001,1\n", "t.csv:3: a step of 0s", false},
		{"too coarse", head + "0,1\n100000,1\n", "t.csv:3: a step of 27h46m40s", false},
		{"too far apart", head + "0,1\n0.001,1\n0.002,1\n300000000,1\n", "t.csv:5:", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Parse("t.csv", UnitCores, []byte(c.text), false)
			if !errors.Is(err, ErrTrace) || !strings.Contains(fmt.Sprint(err), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
			if errors.Is(err, ErrRepairable) != c.repairable && c.name != "too far apart" {
				t.Errorf("%v: repairable %t, want %t", err, !c.repairable, c.repairable)
			}
			if _, err := Parse("t.csv", UnitCores, []byte(c.text), true); (err == nil) != (c.repairable &&
				c.name != "too far apart") {
				t.Errorf("filled: %v", err)
			}
		})
	}
	rows := []byte(head + strings.Repeat("0,1\n", MaxRows+1))
	if _, err := Parse("t.csv", UnitCores, rows, true); err == nil || !strings.Contains(err.Error(),
		"more than 2000000 rows") {
		t.Errorf("too many rows: %v", err)
	}
	if _, err := Parse("t.csv", UnitCores, make([]byte, MaxBytes+1), true); err == nil ||
		!strings.Contains(err.Error(), "bytes") {
		t.Errorf("too many bytes: %v", err)
	}
}

func TestParse(t *testing.T) {
	const head = "seconds,value\n"
	for _, c := range []struct {
		name, text string
		fill       bool
		step       time.Duration
		values     []float64
		filled     int
	}{
		{"plain", head + "0,1\n2,2.5\n4,0\n", false, 2 * time.Second, []float64{1, 2.5, 0}, 0},
		{"Windows, blanks, no newline at the end", "\ufeffseconds, value\r\n0 , 1\r\n\r\n300, 2", false, 5 * time.Minute,
			[]float64{1, 2}, 0},
		{"begins later", head + "1000,1\n1060,2\n", false, time.Minute, []float64{1, 2}, 0},
		{"a tenth beside", head + "0,1\n1,2\n2.05,3\n3,4\n", false, time.Second, []float64{1, 2, 3, 4}, 0},
		{"a hole", head + "0,1\n1,2\n4,5\n5,9\n", true, time.Second, []float64{1, 2, 3, 4, 5, 9}, 2},
		{"out of order", head + "0,1\n2,3\n1,2\n3,4\n", true, time.Second, []float64{1, 2, 3, 4}, 0},
		{"twice: the later counts", head + "0,1\n1,2\n1,7\n2,3\n", true, time.Second, []float64{1, 7, 3}, 0},
		{"no numbers", head + "0,1\n1,NaN\n2,oops\n3,4\n4,-1\n5,6\n6,7\n", true, time.Second, []float64{1, 2, 3, 4, 5, 6, 7},
			3},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := Parse("t.csv", UnitCores, []byte(c.text), c.fill)
			if err != nil {
				t.Fatal(err)
			}
			if got.Step != c.step || !slices.Equal(got.Values, c.values) || got.Filled != c.filled {
				t.Errorf("%+v, want %s %v, %d filled", got, c.step, c.values, c.filled)
			}
		})
	}
}

// What is written is read again.
func TestTraceRoundTrip(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		in := Trace{
			Unit: UnitBytes, Step: time.Duration(rapid.IntRange(1, 3600_000).Draw(rt, "ms")) * time.Millisecond,
			Values: rapid.SliceOfN(rapid.Float64Range(0, 1e12), 2, 50).Draw(rt, "values"),
		}
		out, err := Parse("t.csv", in.Unit, AppendTrace(nil, &in), false)
		if err != nil {
			rt.Fatal(err)
		}
		if out.Step != in.Step || len(out.Values) != len(in.Values) {
			rt.Fatalf("%s and %d values, were %s and %d", out.Step, len(out.Values), in.Step, len(in.Values))
		}
		for i, v := range in.Values {
			if math.Abs(out.Values[i]-v) > 1e-9*v {
				rt.Fatalf("value %d is %g, was %g", i, out.Values[i], v)
			}
		}
	})
}

// FuzzParse: whatever a stranger's file holds, it is an error or a trace that can
// be replayed.
func FuzzParse(f *testing.F) {
	for _, s := range []string{"", "seconds,value\n0,1\n1,2\n", "seconds,value\n0,1\n1,NaN\n9,2\n",
		"seconds,value\n5,1\n1,2\n1,3\n", "seconds,value\n0,1e308\n1e9,2"} {
		f.Add([]byte(s), true)
		f.Add([]byte(s), false)
	}
	f.Fuzz(func(t *testing.T, b []byte, fill bool) {
		trace, err := Parse("t.csv", UnitCores, b, fill)
		if err != nil {
			if !errors.Is(err, ErrTrace) {
				t.Fatalf("%v is not an ErrTrace", err)
			}
			return
		}
		if len(trace.Values) < 2 || len(trace.Values) > MaxRows || trace.Step < MinStep || trace.Step > MaxStep {
			t.Fatalf("%d values in steps of %s", len(trace.Values), trace.Step)
		}
		for _, v := range trace.Values {
			if !(v >= 0 && v <= MaxCores) {
				t.Fatalf("value %g", v)
			}
		}
		if len(trace.Values) > 10_000 {
			return
		}
		s := Run(&trace, newHPA(Defaults()), Defaults())
		if score := Judge(s, Defaults()); math.IsNaN(score.Slack) || math.IsNaN(score.Under) {
			t.Fatalf("%+v", score)
		}
	})
}
