package filter

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"

	"github.com/mailhaul/mailhaul/deliver"
	"github.com/mailhaul/mailhaul/deliver/program"
)

// A filter may write outputFactor times the size of its input, plus outputSlack octets. No
// sensible filter adds more.
const (
	outputFactor = 4
	outputSlack  = 1 << 20
)

// Run runs the program for a message. body is the message in wire form. It is read to its end
// before the program is started, and is not used after Run returns. If reading it fails, the
// program is not run, and the error wraps that of body.
//
// All other errors are *deliver.Error. It is a FaultMessage if the message's values cannot be
// arguments or the message is too large for a file; a FaultTemporary if the filter has failed
// and OnFailure is Wait, or if ctx has ended; and a FaultOperator if all messages are to wait
// for a person. Otherwise it has the fault of the spool, or of what prevented the start of the
// program.
func (f *Filter) Run(ctx context.Context, mail deliver.Mail, body io.Reader) (_ *Result, err error) {
	r := &Result{spool: f.opts.Spool}
	defer func() {
		if err != nil {
			_ = r.Close() // Sweep removes what is left
		}
	}()
	if err := ctx.Err(); err != nil {
		return nil, f.temporaryError("begin", err)
	}
	input, err := f.save(ctx, r, mail.Account, body)
	if err != nil {
		return nil, err
	}
	run, err := f.newRun(mail, input)
	if err != nil {
		return nil, err
	}
	defer run.Stdin.Close()
	output, err := r.create(mail.Account)
	if err != nil {
		return nil, err
	}

	out := &outputWriter{w: bufio.NewWriter(output), limit: outputFactor*input.size + outputSlack}
	run.Stdout = out
	exit, err := f.run(ctx, run)
	if ctx.Err() != nil {
		return nil, f.temporaryError("run the filter", ctx.Err())
	}
	if err == nil {
		err = out.flush()
	}
	if out.err != nil {
		return nil, f.opts.Spool.MessageError(out.err)
	}
	err = f.applyExit(r, exit, err, file{output, out.written})
	return r, err
}

// newRun returns the run for a message whose text is in input. The caller closes Stdin.
func (f *Filter) newRun(mail deliver.Mail, input file) (*program.Run, error) {
	args, env, err := f.command.Fill(program.Values{
		User: mail.User, Account: mail.Account, Sender: mail.Sender, UID: mail.UID, Size: input.size,
	})
	if err != nil {
		return nil, err
	}
	stdin, err := f.opts.Spool.OpenStdin(filepath.Base(input.Name()))
	if err != nil {
		return nil, err
	}
	return &program.Run{Name: f.command.Name(), Args: args, Env: env, Stdin: stdin, Timeout: f.opts.Timeout}, nil
}

// save writes the message to two files: unchanged, to be delivered if the filter fails, and
// with LF line ends, as the program reads it. The first cannot be restored from the second,
// in which a bare LF looks like a CRLF.
func (f *Filter) save(ctx context.Context, r *Result, account string, body io.Reader) (input file, err error) {
	original, err := r.create(account)
	if err != nil {
		return file{}, err
	}
	local, err := r.create(account)
	if err != nil {
		return file{}, err
	}
	wire := &countingWriter{w: original}
	size, bodyErr, fileErr := deliver.Copy(ctx, f.target(), local, deliver.LFReader(io.TeeReader(body, wire)))
	if wire.err != nil || fileErr != nil {
		return file{}, f.opts.Spool.MessageError(errors.Join(wire.err, fileErr))
	}
	if bodyErr != nil {
		return file{}, bodyErr
	}
	r.message = file{original, wire.size}
	return file{local, size}, nil
}

// countingWriter counts the octets written to w, and keeps the error of w.
type countingWriter struct {
	w    io.Writer
	size int64
	err  error
}

func (w *countingWriter) Write(p []byte) (int, error) {
	n, err := w.w.Write(p)
	w.size += int64(n)
	w.err = err
	return n, err
}

// run runs the program, unless the breaker forbids it. An error is a failure of the filter.
func (f *Filter) run(ctx context.Context, run *program.Run) (exit program.Exit, err error) {
	if err := f.breaker.allow(f.opts.Now()); err != nil {
		return program.Exit{}, err
	}
	if run.Path, err = f.command.Find(); err == nil {
		exit, err = run.Do(ctx)
	}
	if ctx.Err() == nil {
		f.breaker.record(f.opts.Now(), err)
	}
	return exit, err
}

// applyExit decides what to do with the message. failure is the error of the run; nil if
// the program ended by itself.
func (f *Filter) applyExit(r *Result, exit program.Exit, failure error, output file) error {
	isOneOf := func(codes []int) bool { return failure == nil && slices.Contains(codes, exit.Code) }
	switch {
	case isOneOf(f.opts.Keep) && (output.size > 0 || r.message.size == 0):
		r.message = output
		return nil
	case isOneOf(f.opts.Quarantine):
		r.Verdict = Quarantine
		if output.size > 0 {
			r.message = output
		}
		return nil
	case isOneOf(f.opts.Drop) && f.opts.AllowDrop:
		r.Verdict = Drop
		return nil
	case isOneOf(f.opts.Drop):
		r.Warning = fmt.Sprintf("%s: it wants to drop the message, which it is not allowed to (%s)", f.target(), exit.Text)
		return nil
	case isOneOf(f.opts.Keep):
		failure = errors.New("it wrote nothing")
	case failure == nil:
		failure = errors.New(exit.Text)
	}
	e := f.failureError(exit, failure)
	if f.opts.OnFailure == Wait {
		return e
	}
	r.Warning = fmt.Sprintf("%v (%s)", e, e.Hint)
	return nil
}

// failureError returns the error of a filter that has failed.
func (f *Filter) failureError(exit program.Exit, failure error) *deliver.Error {
	if e, ok := errors.AsType[*deliver.Error](failure); ok { // the program was not found
		return f.newError(e.Fault, e.Op, e.Err, e.Hint)
	}
	fault, hint := deliver.FaultTemporary, "run it by hand to see what is wrong"
	if e, ok := errors.AsType[*program.StartError](failure); ok {
		fault = e.Fault()
	} else if exit.CannotRun() {
		fault, hint = deliver.FaultOperator, program.HintCannotRun
	}
	return f.newError(fault, "run the filter", failure, hint)
}
