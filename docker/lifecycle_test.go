package docker_test

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/effiscale/effiscale/docker"
	"github.com/effiscale/effiscale/docker/dockertest"
	"github.com/effiscale/effiscale/knowledge"
)

func TestLifecycle(t *testing.T) {
	e := dockertest.New(t, dockertest.Options{})
	c := open(t, e)
	ctx := t.Context()
	if err := c.ImportImage(ctx, "app:1", strings.NewReader("tar")); err != nil {
		t.Fatal(err)
	}
	id, err := c.Create(ctx, knowledge.ContainerSpec{
		Name: "one", Image: "app:1", Labels: map[string]string{"a": "b"}, Publish: []int{8080},
		Limits: knowledge.Limits{CPU: knowledge.OneCPU / 4, Memory: 64 * knowledge.MiB},
	})
	if err != nil {
		t.Fatal(err)
	}
	if r := e.Record(id); r.CPU != knowledge.OneCPU/4 || r.Memory != 64*knowledge.MiB || r.Dialect != docker.CPUNano {
		t.Errorf("%+v", r)
	}
	_, err = c.Create(ctx, knowledge.ContainerSpec{Name: "one", Image: "app:1"})
	wantKind(t, err, docker.KindConflict)
	_, err = c.Create(ctx, knowledge.ContainerSpec{Name: "two", Image: "none"})
	wantKind(t, err, docker.KindGone)
	for range 2 { // the second time there is nothing to do
		if err := c.Start(ctx, id); err != nil {
			t.Fatal(err)
		}
	}
	was, err := c.Inspect(ctx, id)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Restart(ctx, id, 0); err != nil {
		t.Fatal(err)
	}
	if is, err := c.Inspect(ctx, id); err != nil || is.State != knowledge.StateRunning || is.PID == was.PID {
		t.Errorf("restarted: %+v, %v", is, err)
	}
	for range 2 {
		if err := c.Stop(ctx, id, 0); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if err := c.Remove(ctx, id); err != nil {
			t.Fatal(err)
		}
		if err := c.RemoveImage(ctx, "app:1"); err != nil {
			t.Fatal(err)
		}
	}
	wantKind(t, c.Start(ctx, id), docker.KindGone)
	wantKind(t, c.Restart(ctx, id, 0), docker.KindGone)
	if e.Image("app:1") || len(e.Containers()) != 0 {
		t.Error("something was left behind")
	}
}

func TestImages(t *testing.T) {
	e := dockertest.New(t, dockertest.Options{})
	c := open(t, e)
	ctx := t.Context()
	_, err := c.Image(ctx, "app:1")
	wantKind(t, err, docker.KindGone)
	wantKind(t, c.TagImage(ctx, "app:1", "app:2"), docker.KindGone)
	if err := c.ImportImage(ctx, "app:1", strings.NewReader("tar")); err != nil {
		t.Fatal(err)
	}
	if err := c.TagImage(ctx, "app:1", "app:2"); err != nil {
		t.Fatal(err)
	}
	first, err := c.Image(ctx, "app:1")
	if err != nil || len(first.Tags) != 2 || first.OS != "linux" || first.Size != knowledge.MiB {
		t.Fatalf("%+v, %v", first, err)
	}
	for _, reference := range []string{"app:2", first.ID, "app@" + first.ID} {
		if same, err := c.Image(ctx, reference); err != nil || same.ID != first.ID {
			t.Errorf("%s: %+v, %v", reference, same, err)
		}
	}
	if _, err := c.Create(ctx, knowledge.ContainerSpec{Name: "one", Image: first.ID}); err != nil {
		t.Error(err)
	}
}

func TestNetworks(t *testing.T) {
	e := dockertest.New(t, dockertest.Options{})
	c := open(t, e)
	ctx := t.Context()
	one, two := e.Run(dockertest.Spec{}), e.Run(dockertest.Spec{})
	wantKind(t, c.ConnectNetwork(ctx, "front", one), docker.KindGone)
	if id, err := c.CreateNetwork(ctx, knowledge.NetworkSpec{Name: "front"}); err != nil || len(id) != 64 {
		t.Fatalf("%q, %v", id, err)
	}
	_, err := c.CreateNetwork(ctx, knowledge.NetworkSpec{Name: "front"})
	wantKind(t, err, docker.KindConflict)
	if err := c.ConnectNetwork(ctx, "front", one, "web", "app"); err != nil {
		t.Fatal(err)
	}
	wantKind(t, c.ConnectNetwork(ctx, "front", one), docker.KindRefused) // it is on it already
	if err := c.ConnectNetwork(ctx, "front", two); err != nil {
		t.Fatal(err)
	}
	if on, ok := e.Network("front"); !ok || len(on) != 2 || !slices.Equal(on[one], []string{"web", "app"}) ||
		on[two] != nil {
		t.Errorf("%v %v", on, ok)
	}
	wantKind(t, c.RemoveNetwork(ctx, "front"), docker.KindRefused)
	for _, id := range []knowledge.ContainerID{one, two} {
		if err := c.Remove(ctx, id); err != nil {
			t.Fatal(err)
		}
	}
	wantKind(t, c.ConnectNetwork(ctx, "front", one), docker.KindGone)
	for range 2 {
		if err := c.RemoveNetwork(ctx, "front"); err != nil {
			t.Fatal(err)
		}
	}
	if _, ok := e.Network("front"); ok {
		t.Error("the network was left behind")
	}
}

// Names become parts of URLs: what could lead elsewhere is not sent.
func TestHostileReferences(t *testing.T) {
	e := dockertest.New(t, dockertest.Options{})
	c := open(t, e)
	ctx := t.Context()
	id := e.Run(dockertest.Spec{})
	for _, name := range []string{"", "..", "../containers/" + string(id), "a/../b", "a//b", "a b", "a?force=1", "a\n",
		strings.Repeat("a", 600)} {
		_, err := c.Image(ctx, name)
		wantKind(t, err, docker.KindRefused)
		_, err = c.Create(ctx, knowledge.ContainerSpec{Name: "one", Image: name})
		wantKind(t, err, docker.KindRefused)
		_, err = c.CreateNetwork(ctx, knowledge.NetworkSpec{Name: name})
		wantKind(t, err, docker.KindRefused)
		wantKind(t, c.TagImage(ctx, name, "app:2"), docker.KindRefused)
		wantKind(t, c.TagImage(ctx, "app:2", name), docker.KindRefused)
		wantKind(t, c.ImportImage(ctx, name, strings.NewReader("tar")), docker.KindRefused)
		wantKind(t, c.RemoveImage(ctx, name), docker.KindRefused)
		wantKind(t, c.RemoveNetwork(ctx, name), docker.KindRefused)
		wantKind(t, c.ConnectNetwork(ctx, name, id), docker.KindRefused)
	}
	for _, op := range []string{
		dockertest.Image, dockertest.Create, dockertest.Tag, dockertest.Import, dockertest.RemoveI,
		dockertest.CreateN, dockertest.RemoveN, dockertest.Connect, dockertest.RemoveC,
	} {
		if n := e.Calls(op); n != 0 {
			t.Errorf("%d calls of %s", n, op)
		}
	}
}

func TestRealLifecycle(t *testing.T) {
	r := openReal(t)
	ctx := t.Context()
	image, err := r.Image(ctx, r.image)
	if err != nil || !slices.Contains(image.Tags, r.image) || image.OS != "linux" || image.Architecture == "" ||
		image.Size <= 0 {
		t.Fatalf("%+v, %v", image, err)
	}
	_, err = r.Image(ctx, "effiscale-docker-test-none:1")
	wantKind(t, err, docker.KindGone)
	second := r.image + "-again"
	if err := r.TagImage(ctx, image.ID, second); err != nil {
		t.Fatal(err)
	}
	r.cleanup("tag", func(ctx context.Context) error { return r.RemoveImage(ctx, second) })
	if same, err := r.Image(ctx, second); err != nil || same.ID != image.ID {
		t.Errorf("%+v, %v", same, err)
	}

	name := fmt.Sprintf("effiscale-docker-test-%d-life", os.Getpid())
	network, err := r.CreateNetwork(ctx, knowledge.NetworkSpec{Name: name,
		Labels: map[string]string{"effiscale.test": "docker"}})
	if err != nil || len(network) != 64 {
		t.Fatalf("%q, %v", network, err)
	}
	r.cleanup("network", func(ctx context.Context) error { return r.RemoveNetwork(ctx, name) })
	_, err = r.CreateNetwork(ctx, knowledge.NetworkSpec{Name: name})
	wantKind(t, err, docker.KindConflict)

	spec := knowledge.ContainerSpec{Name: name, Image: image.ID, Command: []string{"/sleeper", "1"}}
	id, err := r.Create(ctx, spec)
	if err != nil {
		t.Fatal(err)
	}
	r.cleanup("container", func(ctx context.Context) error { return r.Remove(ctx, id) })
	_, err = r.Create(ctx, spec)
	wantKind(t, err, docker.KindConflict)
	spec.Image = "effiscale-docker-test-none:1"
	_, err = r.Create(ctx, spec)
	wantKind(t, err, docker.KindGone)
	wantKind(t, r.ConnectNetwork(ctx, name+"-none", id), docker.KindGone)
	if err := r.ConnectNetwork(ctx, name, id, "alias"); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := r.Start(ctx, id); err != nil {
			t.Fatal(err)
		}
	}
	wantKind(t, r.RemoveNetwork(ctx, name), docker.KindRefused) // a container is on it
	at, err := r.Endpoints(ctx, id, 8080)
	if err != nil || len(at) != 2 { // of the default bridge and of this network
		t.Errorf("%v, %v", at, err)
	}
	was, err := r.Inspect(ctx, id)
	if err != nil || was.State != knowledge.StateRunning {
		t.Fatalf("%+v, %v", was, err)
	}
	if err := r.Restart(ctx, id, time.Second); err != nil {
		t.Fatal(err)
	}
	if is, err := r.Inspect(ctx, id); err != nil || is.State != knowledge.StateRunning || is.PID == was.PID {
		t.Errorf("restarted: %+v, %v", is, err)
	}
	for range 2 {
		if err := r.Stop(ctx, id, time.Second); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if err := r.Remove(ctx, id); err != nil {
			t.Fatal(err)
		}
	}
	wantKind(t, r.Start(ctx, id), docker.KindGone)
	for range 2 {
		if err := r.RemoveNetwork(ctx, name); err != nil {
			t.Fatal(err)
		}
	}
}
