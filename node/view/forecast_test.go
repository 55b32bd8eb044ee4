package view

import (
	"encoding/json"
	"math"
	"regexp"
	"slices"
	"testing"
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/mape"
	"github.com/effiscale/effiscale/mape/service"
	"github.com/effiscale/effiscale/node/api"
)

func TestAlong(t *testing.T) {
	at := func(h time.Duration, v float64) service.Outlook {
		o := service.Outlook{Value: v}
		o.Horizon = h
		return o
	}
	got := along(1, []service.Outlook{at(10*time.Second, 2), at(time.Minute, 7), at(80*time.Second, 3)}, 10)
	for i, want := range []float64{2, 3, 4, 5, 6, 7, 5, 3, 3, 3} {
		if math.Abs(got[i]-want) > 1e-9 {
			t.Fatalf("%v at %d, want %g", got, i, want)
		}
	}
	if got := along(1, []service.Outlook{at(7*time.Second, 2)}, 2); got[0] != 2 || got[1] != 2 {
		t.Errorf("%v", got)
	}
}

// TestForecastOfTheHost: no forecast is above what the host has, and one that would be says so
// (row 140).
func TestForecastOfTheHost(t *testing.T) {
	var o service.Outlook
	o.Peak, o.Upper = 3.5, 5*knowledge.OneCPU
	for cores, want := range map[float64]api.Forecast{
		0: {Expected: 3.5, Upper: 5}, 2: {Expected: 2, Upper: 2, Capped: true}, 4: {Expected: 3.5, Upper: 4, Capped: true},
		8: {Expected: 3.5, Upper: 5},
	} {
		if v := forecastView(&o, cores); v.Expected != want.Expected || v.Upper != want.Upper || v.Capped != want.Capped {
			t.Errorf("%g cores: %+v", cores, v)
		}
	}
	values := []float64{0.10000000149, 9, 1}
	if bound(values, 4); values[0] != 0.1 || values[1] != 4 || values[2] != 1 {
		t.Errorf("%v", values)
	}
}

// TestAllForecastsOfTheHost: each kind of forecast is bounded by the host (row 140).
func TestAllForecastsOfTheHost(t *testing.T) {
	var o service.Outlook
	o.Peak, o.Upper, o.Level = 3.5, 5*knowledge.OneCPU, 0.95
	c := mape.ContainerStatus{Outlooks: []service.Outlook{o}, Ahead: o}
	list, next := forecastViews(&c, 2), nextForecast(&c, 2)
	if len(list) != 1 || list[0].Upper != 2 || next == nil || next.Upper != 2 {
		t.Errorf("%+v, %+v", list, next)
	}
	now := time.Unix(10000, 0)
	var rising []knowledge.Point // to more than both cores and all memory within the window
	for i := range 30 {
		rising = append(rising, knowledge.Point{At: now.Add(time.Duration(i-30) * predictStep).UnixNano(),
			CPU: 1 + float32(i)/30, WorkingSet: knowledge.Bytes(i) * 30 * knowledge.MiB})
	}
	p := Predictions(&mape.ContainerStatus{}, rising, knowledge.Host{CPUs: 2, Memory: knowledge.GiB}, 10*time.Minute, now)
	if len(p.CPU) == 0 || slices.Max(p.CPU) != 2 || len(p.Memory) == 0 || slices.Max(p.Memory) != 1 {
		t.Errorf("%+v", p)
	}
}

// TestNoFloat32Noise: figures that were stored as float32 are printed as they were meant (row 140).
func TestNoFloat32Noise(t *testing.T) {
	p := knowledge.Point{At: int64(time.Second), CPU: 0.1, CPULimit: 0.3, Throttled: 0.7}
	text, err := json.Marshal(past(api.Metric{}, p, knowledge.GiB))
	if noise := regexp.MustCompile(`\.[0-9]{7,}`).Find(text); err != nil || noise != nil {
		t.Errorf("%s in %s, %v", noise, text, err)
	}
}
