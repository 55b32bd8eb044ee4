package history

import (
	"slices"
	"testing"
	"time"

	"github.com/effiscale/effiscale/knowledge"
)

func TestEven(t *testing.T) {
	at := func(minute int) time.Time { return epoch.Add(time.Duration(minute) * time.Minute) }
	got := Even([]Bucket{
		{At: at(0), MeanDemand: 1, MaxDemand: 2, WorkingSet: 100, Containers: 1},
		{At: at(1), MeanDemand: 1, MaxDemand: 3, WorkingSet: 100, Containers: 3, Throttled: 0.2},
		{At: at(4), MeanDemand: 2, MaxDemand: 2, WorkingSet: 50, Containers: 1},
		{At: at(2), MeanDemand: 9, MaxDemand: 9},
		{At: at(5), MeanDemand: 0.5, MaxDemand: 1, WorkingSet: 10},
	}, Fine)
	want := Trace{
		Start: epoch, Step: time.Minute, Demand: []float64{1, 3, 3, 3, 2, 0.5}, Peak: []float64{2, 5, 5, 5, 2, 1},
		Memory: []float64{100, 300, 300, 300, 50, 10}, Filled: 2, Gaps: 1, Throttled: 1,
	}
	if !slices.Equal(got.Demand, want.Demand) || !slices.Equal(got.Peak, want.Peak) ||
		!slices.Equal(got.Memory, want.Memory) ||
		got.Filled != want.Filled || got.Gaps != want.Gaps || got.Throttled != want.Throttled || got.Start != want.Start ||
		got.Step != want.Step {
		t.Errorf("%+v", got)
	}
	if got := Even(nil, Coarse); len(got.Demand) != 0 || got.Step != 10*time.Minute {
		t.Errorf("%+v", got)
	}
}

func TestSecondsOfSeveralContainers(t *testing.T) {
	points := func(use float32, every, until int) (out []knowledge.Point) {
		for s := every; s <= until; s += every {
			out = append(out, knowledge.Point{At: epoch.Add(time.Duration(s) * time.Second).UnixNano(), CPU: use,
				Demand: 2 * use, WorkingSet: 10})
		}
		return out
	}
	busy, idle := points(1, 1, 10), points(0.25, 5, 30)
	busy[3].Throttled = 0.1
	got := Seconds([][]knowledge.Point{busy, idle}, epoch.Add(-3*time.Minute), epoch.Add(30*time.Second))
	if len(got.Demand) < 30 || got.Filled != 0 || got.Throttled != 1 || got.Step != time.Second {
		t.Fatalf("%d steps, %+v", len(got.Demand), got)
	}
	last := got.Demand[len(got.Demand)-30:]
	if last[0] != 2 || last[3] != 2.5 || last[9] != 2.5 || last[10] != 0.5 || last[29] != 0.5 {
		t.Errorf("%v", last)
	}
	if end := got.Start.Add(time.Duration(len(got.Demand)) * time.Second); !end.Equal(epoch.Add(30 * time.Second)) {
		t.Errorf("ends at %s", end)
	}
	hole := append(points(1, 1, 2), knowledge.Point{At: epoch.Add(20 * time.Second).UnixNano(), CPU: 3})
	if got := Seconds([][]knowledge.Point{hole}, epoch, epoch.Add(20*time.Second)); got.Gaps != 1 || got.Filled != 6 ||
		got.Demand[7] != 2 || got.Demand[19] != 3 {
		t.Errorf("%+v", got)
	}
	if got := Seconds(nil, epoch, epoch.Add(time.Minute)); len(got.Demand) != 0 {
		t.Errorf("%+v", got)
	}
}
