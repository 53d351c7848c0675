package heed.bench;

/** What the bench asks for: environment variables BENCH_*. */
final class Spec {
  static String of(String name) {
    String found = System.getenv("BENCH_" + name);
    if (found == null) {
      throw new IllegalStateException("BENCH_" + name + " is not set");
    }
    return found;
  }

  static String of(String name, String otherwise) {
    String found = System.getenv("BENCH_" + name);
    return found == null ? otherwise : found;
  }

  static long number(String name) {
    return Long.parseLong(of(name));
  }

  private Spec() {}
}
