"""Authentication: credential -> principal. What was shown becomes what is proven, or an AuthenticationError."""
