package node

import (
	"flag"
	"os"
	"testing"
)

func TestMain(m *testing.M) {
	flag.Parse()
	// Most tests wait for intervals of the daemon: one a core would last twice as long.
	_ = flag.Set("test.parallel", "4")
	os.Exit(m.Run())
}
