// Nothing: the program whose precompiled headers all tests use (CMakeLists.txt).
