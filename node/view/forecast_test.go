package view

import (
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/effiscale/effiscale/knowledge"
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

// TestNoFloat32Noise: figures that were stored as float32 are printed as they were meant (row 140).
func TestNoFloat32Noise(t *testing.T) {
	p := knowledge.Point{At: 1, CPU: 0.1, CPULimit: 0.3, Throttled: 0.7}
	text, err := json.Marshal(past(api.Metric{}, p, knowledge.GiB))
	for _, noise := range []string{"0.10000000", "0.30000001", "0.69999998", "0.333333343"} {
		if err != nil || strings.Contains(string(text), noise) {
			t.Errorf("%s: %s, %v", noise, text, err)
		}
	}
}
