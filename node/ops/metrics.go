package ops

import (
	"context"
	"fmt"
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/knowledge/history"
	"github.com/effiscale/effiscale/knowledge/store"
	"github.com/effiscale/effiscale/node/api"
	"github.com/effiscale/effiscale/node/view"
)

// metrics shows what is measured on this host, and starts and stops measuring.
type metrics struct{ host *host }

// Metric is the newest reading of a container.
func (o metrics) Metric(ctx context.Context, ref string) (api.Metric, error) {
	u, err := o.host.find(ctx, ref)
	if err != nil {
		return api.Metric{}, err
	}
	if u.Window.Samples == 0 {
		return api.Metric{}, api.Errorf(api.KindUnavailable, "%s has not been measured yet: %s",
			u.Container.Name, view.Unmeasured(&u))
	}
	return view.Metric(ref, &u, o.host.machine().Memory), nil
}

// Metrics are the readings of the last window, oldest first: the newest minutes
// in full, before them minutes, and ten minutes before the last day.
func (o metrics) Metrics(ctx context.Context, ref string, window time.Duration) ([]api.Metric, error) {
	to := time.Now()
	from := to.Add(-window)
	u, points, err := o.host.loop.Points(ctx, ref, from)
	if err != nil {
		return nil, loopError(err)
	}
	if len(points) > 0 {
		to = time.Unix(0, points[0].At)
	}
	older, err := o.older(ctx, u.Container.Service, from, to)
	if err != nil {
		return nil, err
	}
	return view.Metrics(ref, &u, append(older, points...), o.host.machine().Memory), nil
}

// older are the kept buckets of a service between two instants. They show nothing
// of one container where several do the same work.
func (o metrics) older(ctx context.Context, key knowledge.ServiceKey, from, to time.Time) ([]knowledge.Point, error) {
	if to.Sub(from) < history.Fine.Step() {
		return nil, nil
	}
	units, _, err := o.host.containers(ctx)
	if err != nil {
		return nil, err
	}
	same := 0
	for i := range units {
		if units[i].Container.Service == key && units[i].Measured {
			same++
		}
	}
	if same > 1 {
		return nil, nil
	}
	day := to.Add(-24 * time.Hour)
	if day.Before(from) {
		day = from
	}
	coarse, err := o.host.series(ctx, key, history.Coarse, from, day)
	if err != nil {
		return nil, fmt.Errorf("cannot read the stored series: %w", err)
	}
	fine, err := o.host.series(ctx, key, history.Fine, day, to.Add(-history.Fine.Step()))
	if err != nil {
		return nil, fmt.Errorf("cannot read the stored series: %w", err)
	}
	points := make([]knowledge.Point, 0, len(coarse)+len(fine))
	for _, b := range append(coarse, fine...) {
		points = append(points, knowledge.Point{
			At: b.At.UnixNano(), CPU: float32(b.MeanCPU), CPULimit: float32(b.CPULimit), Throttled: float32(b.Throttled),
			WorkingSet: b.WorkingSet, MemoryLimit: b.MemoryLimit,
		})
	}
	return points, nil
}

// Watch starts or stops measuring a container.
func (o metrics) Watch(ctx context.Context, ref string, on bool) (bool, error) {
	already, err := o.host.loop.Watch(ctx, ref, on)
	return already, loopError(err)
}

// Predict forecasts use for the next window, one value each 10 s.
func (o metrics) Predict(ctx context.Context, ref string, window time.Duration) (api.Predictions, error) {
	u, err := o.host.find(ctx, ref)
	if err != nil {
		return api.Predictions{}, err
	}
	now := time.Now()
	_, points, err := o.host.loop.Points(ctx, ref, now.Add(-view.PredictFrom))
	if err != nil {
		return api.Predictions{}, loopError(err)
	}
	return view.Predictions(&u, points, o.host.machine(), window, now), nil
}

// WireHistory is the history of a container in the form of the wire contract, newest first.
func (o metrics) WireHistory(ctx context.Context, ref string, limit int) ([]api.WireRecord, error) {
	u, err := o.host.find(ctx, ref)
	if err != nil {
		return nil, err
	}
	all, err := o.host.records(ctx, store.Filter{Container: u.Container.ID, Limit: min(limit, api.MaxRecords)})
	if err != nil {
		return nil, err
	}
	return view.WireRecords(ref, u.Window, all), nil
}
