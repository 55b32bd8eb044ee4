package node

import (
	"context"
	"time"

	"github.com/effiscale/effiscale/node/api"
	"github.com/effiscale/effiscale/node/view"
)

// Predict forecasts use for the next window, one value each 10 s.
func (n *Node) Predict(ctx context.Context, ref string, window time.Duration) (api.Predictions, error) {
	now := time.Now()
	u, _, err := n.loop.Find(ctx, ref)
	if err != nil {
		return api.Predictions{}, asError(err)
	}
	_, points, err := n.loop.Points(ctx, ref, now.Add(-view.PredictFrom))
	if err != nil {
		return api.Predictions{}, asError(err)
	}
	return view.Predictions(&u, points, n.host().Memory, window, now), nil
}
