package heed.bench;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Locale;

/** The same clock and costs as tests/bench/meter.py, and the same one line of JSON, with which the process ends. */
final class Meter {
  private static final double TICKS = 100;
  private static final long COUNT = Spec.number("COUNT");
  private static final long WARM = Spec.number("WARM");
  private static long done;
  private static long before;
  private static long batches;
  private static double[] began;

  /** The first records are here. */
  static synchronized void start() {
    if (began == null) {
      began = snapshot();
    }
  }

  /** So many more are committed; with the last of them, print and end. */
  static synchronized void add(int events) {
    done += events;
    batches++;
    if (WARM > 0 && before == 0 && done >= WARM) {
      before = done;
      batches = 0;
      began = snapshot();
    }
    if (done >= COUNT) {
      double[] now = snapshot();
      long counted = done - before;
      double each = 1e6 / counted;
      System.out.printf(
          Locale.ROOT,
          "{\"events\": %d, \"batches\": %d, \"rate\": %.0f, \"worker_us\": %.2f, \"postgres_us\": %.2f,"
              + " \"broker_us\": %.2f}%n",
          counted, batches, counted / (now[0] - began[0]), (now[1] - began[1]) * each, (now[3] - began[3]) * each,
          (now[2] - began[2]) * each);
      System.out.flush();
      Runtime.getRuntime().halt(0);
    }
  }

  private static double[] snapshot() {
    return new double[] {
      System.nanoTime() / 1e9, cpu("self", false), cpu(Spec.of("KAFKA_PID"), false), family(Spec.of("POSTGRES_PID"))
    };
  }

  private static double family(String pid) {
    double spent = cpu(pid, true);
    try {
      for (String child : Files.readString(Path.of("/proc", pid, "task", pid, "children")).trim().split(" +")) {
        spent += child.isEmpty() ? 0 : cpu(child, false);
      }
    } catch (IOException gone) {
      return spent;
    }
    return spent;
  }

  /** Seconds of a process, and of its children that have ended. */
  private static double cpu(String pid, boolean ended) {
    try {
      String told = Files.readString(Path.of("/proc", pid, "stat"));
      String[] fields = told.substring(told.lastIndexOf(')') + 2).split(" ");
      double spent = 0;
      for (int i = 11; i < (ended ? 15 : 13); i++) {
        spent += Long.parseLong(fields[i]) / TICKS;
      }
      return spent;
    } catch (IOException gone) {
      return 0;
    }
  }

  private Meter() {}
}
