package program

import (
	"io"
	"os"
	"sync"
)

// outputs are the pipes that a program writes to, and the goroutines that read them.
type outputs struct {
	stdout *pipe // the one to Run.Stdout; nil if that is nil
	tail   tail  // the end of all other output
	pipes  []*pipe
	wg     sync.WaitGroup
	ended  chan struct{} // closed when all pipes were read to the end
}

// pipe is a pipe from the program, which writes to w, to this process.
type pipe struct {
	r, w *os.File
	err  error // of the copy, after it has ended
}

// addPipe makes a pipe and starts to copy what the program writes to it to dst. If that
// fails, it calls failed with the error.
func (o *outputs) addPipe(dst io.Writer, failed func(error)) (*pipe, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	p := &pipe{r: r, w: w}
	o.pipes = append(o.pipes, p)
	o.wg.Go(func() {
		if _, p.err = io.Copy(dst, r); p.err != nil {
			failed(p.err)
		}
	})
	return p, nil
}

// closeWriters closes the writing ends of this process, so that a pipe ends when the program
// closes its own. It is called after the program was started, or could not be.
func (o *outputs) closeWriters() {
	for _, p := range o.pipes {
		_ = p.w.Close()
	}
	o.ended = make(chan struct{})
	go func() {
		o.wg.Wait()
		close(o.ended)
	}()
}

// close stops reading. After it, nothing more is written to where the output is copied.
func (o *outputs) close() {
	for _, p := range o.pipes {
		_ = p.r.Close()
	}
	<-o.ended
}
