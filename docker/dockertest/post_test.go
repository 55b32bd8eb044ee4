package dockertest_test

import (
	"context"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/effiscale/effiscale/docker/dockertest"
	"github.com/effiscale/effiscale/knowledge"
)

// post sends an update that docker.Client never sends.
func post(t *testing.T, e *dockertest.Engine, id knowledge.ContainerID, body string) int {
	t.Helper()
	socket := strings.TrimPrefix(e.Host(), "unix://")
	tr := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", socket)
	}}
	defer tr.CloseIdleConnections()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost,
		"http://engine/v1.41/containers/"+string(id)+"/update", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := tr.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	return resp.StatusCode
}
